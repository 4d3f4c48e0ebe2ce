"""What LangChain's models are asked and answer, as plain values for the log."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langgraph.types import Command

ROLES = {"AIMessageChunk": "ai", "HumanMessageChunk": "human"}
DETAILS = (
    "name",
    "tool_calls",
    "invalid_tool_calls",
    "tool_call_id",
    "status",
    "additional_kwargs",
    "response_metadata",
    "usage_metadata",
)
"""What is told of a message beside its text, where there is something to tell."""
IDS = ("id", "request_id", "x-request-id", "system_fingerprint")
"""Of `response_metadata`: under these names providers tell how they know the call."""
DEPTH = 100
"""What is nested deeper is not copied, and the log tells it by its `repr`."""


def plain_message(message: BaseMessage) -> dict[str, Any]:
    """Without what only the program sees: a tool's artifact is not sent to a model."""
    told = {"type": ROLES.get(message.type, message.type), "content": plain(message.content)}
    if message.id:
        told["id"] = message.id
    return told | {name: plain(value) for name in DETAILS if (value := getattr(message, name, None))}


def answer_of(result: LLMResult) -> Any:
    """One message or text; a list of them where several were asked for; None where nothing came."""
    given = [_plain_generation(generation) for generation in _generations(result)]
    return given[0] if len(given) == 1 else given or None


def _plain_generation(generation: Generation) -> Any:
    return plain_message(generation.message) if isinstance(generation, ChatGeneration) else {"text": generation.text}


def _generations(result: LLMResult) -> list[Generation]:
    return [generation for prompt in result.generations for generation in prompt]


def _messages(result: LLMResult) -> Iterator[AIMessage]:
    for generation in _generations(result):
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            yield generation.message


def is_from_cache(result: LLMResult) -> bool:
    """LangChain marks an answer from its cache so: nothing was paid for it."""
    return any(_usage(message).get("total_cost") == 0 for message in _messages(result))


def _usage(message: AIMessage) -> Mapping[str, Any]:
    return message.usage_metadata or dict[str, Any]()


def usage_of(result: LLMResult) -> dict[str, int]:
    """Tokens by the names of a model_event; those read from or written to the provider's cache are input, too."""
    counted: dict[str, int] = {}
    for message in _messages(result):
        usage = _usage(message)
        details: Mapping[str, Any] = usage.get("input_token_details", {})
        _add(counted, "input_tokens", usage.get("input_tokens"))
        _add(counted, "output_tokens", usage.get("output_tokens"))
        _add(counted, "cache_read_tokens", details.get("cache_read"))
        _add(counted, "cache_write_tokens", details.get("cache_creation"))
    if not counted:  # models of texts tell it so, and chat models whose makers did not know the other way
        told = (result.llm_output or {}).get("token_usage")
        if isinstance(told, Mapping):
            _add(counted, "input_tokens", told.get("prompt_tokens"))
            _add(counted, "output_tokens", told.get("completion_tokens"))
    return counted


def _add(counted: dict[str, int], name: str, tokens: Any) -> None:
    if isinstance(tokens, int) and tokens > 0:
        counted[name] = counted.get(name, 0) + tokens


def model_of(result: LLMResult) -> str | None:
    """The model that answered, by its own word."""
    found = (message.response_metadata.get("model_name") for message in _messages(result))
    return next((name for name in found if isinstance(name, str) and name), None)


def ids_of(result: LLMResult) -> dict[str, str]:
    """Under which the provider knows the call."""
    ids: dict[str, str] = {}
    for message in _messages(result):
        ids |= {name: str(value) for name in IDS if (value := message.response_metadata.get(name))}
        if message.id and not message.id.startswith(("run-", "lc_run-")):  # those LangChain made
            ids["response_id"] = message.id
    return ids


def words_in(message: BaseMessage) -> Iterator[tuple[str, str]]:
    """What a piece of an answer says, by kind: `reasoning` or `text`. Calls of tools are no words."""
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str):
        yield "reasoning", reasoning
    if isinstance(message.content, str):
        yield "text", message.content
        return
    for block in message.content:
        if isinstance(block, str):
            yield "text", block
        else:
            yield from _words_in_block(block)


def _words_in_block(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match block:
        case {"type": "text", "text": str(text)}:
            yield "text", text
        case {"type": "thinking", "thinking": str(text)} | {"type": "reasoning", "reasoning": str(text)}:
            yield "reasoning", text
        case {"type": "reasoning", "summary": list(summary)}:
            yield from (
                ("reasoning", str(part["text"])) for part in summary if isinstance(part, dict) and "text" in part
            )


def tool_answer(output: Any) -> tuple[Any, str | None]:
    """What a tool gave back, as far as a model or the graph sees it, and the error that it told in this way."""
    match output:
        case ToolMessage():
            return output.content, str(output.content) if output.status == "error" else None
        case BaseMessage():
            return plain_message(output), None
        case Command():
            said = {"goto": output.goto, "update": output.update, "graph": output.graph, "resume": output.resume}
            return {name: plain(value) for name, value in said.items() if value}, None
        case _:
            return plain(output), None


def plain(value: Any, depth: int = 0) -> Any:
    """Copies what may change later, with messages as the log tells them; leaves alone what looking at would change."""
    if depth > DEPTH:
        return value
    match value:
        case BaseMessage():
            return plain_message(value)
        case dict():
            return {key: plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, depth + 1) for item in value]
        case Iterator() | AsyncIterator():
            return repr(value)
        case _:
            return value
