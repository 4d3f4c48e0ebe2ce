"""A chat model that answers from a script, and agents that use it: no network, and the same in every process.

Which line of its script a model says follows from the messages that it reads alone (how many of its own are among
them), since each call of an agent may happen in another process.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph.state import CompiledStateGraph

from tests.graphs.effects import happened

Messages = Sequence[BaseMessage]
Turn = str | AIMessage | list[ToolCall] | Callable[[Messages], "Turn"]
Agent = CompiledStateGraph[Any, Any, Any, Any]


class ScriptedModel(BaseChatModel):
    label: str = "model"
    turns: Sequence[Any]
    """What it says, as `Turn`s: a text, calls of tools, a whole message, or a function of the messages."""
    ids: bool = True
    """As providers do; without, LangChain draws one at random."""
    provider: str = "scripted"
    failures: int = 0
    """So many first calls of a session raise `error`."""
    error: Exception = ConnectionError("the model is away")

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_model_type="chat", ls_provider=self.provider)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        # What a provider brings itself is a dict of its own form.
        bound = [each if isinstance(each, dict) and "type" in each else convert_to_openai_tool(each) for each in tools]
        return self.bind(tools=bound, **kwargs)

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._says(messages, kwargs))])

    def _says(self, messages: Messages, kwargs: Mapping[str, Any]) -> AIMessage:
        if happened(f"{self.label} is called") <= self.failures:
            raise self.error
        index = sum(message.response_metadata.get("model_name") == self.label for message in messages)
        happened(f"{self.label} reads {len(messages)}: {messages[-1].text[:60]!r}, may call {_tools(kwargs)}")
        message = _message(self.turns[index], messages)
        used = UsageMetadata(input_tokens=len(messages), output_tokens=1, total_tokens=len(messages) + 1)
        return message.model_copy(
            update={
                "id": f"{self.label}-{index}" if self.ids else None,
                "response_metadata": {"model_name": self.label},
                "usage_metadata": used,
            }
        )


def _message(turn: Turn, messages: Messages) -> AIMessage:
    match turn:
        case AIMessage():
            return turn
        case str():
            return AIMessage(turn)
        case list():
            return AIMessage("", tool_calls=turn)
        case _:
            return _message(turn(messages), messages)


class StreamingModel(ScriptedModel):
    """Says its lines word by word, arguments of calls in two halves."""

    streaming: bool = True

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield from _chunks(self._says(messages, kwargs))

    async def _astream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._says(messages, kwargs)):
            yield chunk


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    for word in re.findall(r" *[^ ]+", message.text):
        yield _chunk(message, content=word)
    for index, call in enumerate(message.tool_calls):
        arguments = str(call["args"]).replace("'", '"')
        for name, call_id, part in ((call["name"], call["id"], arguments[:3]), (None, None, arguments[3:])):
            yield _chunk(message, tool_call_chunks=[tool_call_chunk(name=name, args=part, id=call_id, index=index)])
    yield _chunk(message, response_metadata=message.response_metadata, usage_metadata=message.usage_metadata)


def _chunk(message: AIMessage, content: str = "", **fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content, id=message.id, **fields))


def _tools(kwargs: Mapping[str, Any]) -> list[str]:
    """Sorted, since langgraph-supervisor hands its own over in the order of a set."""
    return sorted(each.get("function", each).get("name") or each["type"] for each in kwargs.get("tools", ()))


def call(name: str, id: str, /, **arguments: Any) -> ToolCall:  # noqa: A002
    return ToolCall(name=name, args=arguments, id=id, type="tool_call")


def heard(messages: Messages) -> Turn:
    """All that the model was told, as its answer."""
    return " / ".join(f"{message.type}: {message.text}" for message in messages)


def says(*turns: Turn, label: str = "model", **options: Any) -> ScriptedModel:
    return ScriptedModel(turns=turns, label=label, **options)


def agent(model: BaseChatModel, tools: Sequence[Any] = (), *middleware: Any, **options: Any) -> Agent:
    return create_agent(model, list(tools), middleware=middleware, **options)


@tool
async def look_up(word: str) -> str:
    """Looks a word up."""
    happened(f"look up {word}")
    return f"{word} is a word"


@tool
def pay(amount: int) -> str:
    """Pays; without `async`, so it runs in a thread."""
    happened(f"pay {amount}")
    return f"paid {amount}"


def asks(text: str) -> dict[str, Any]:
    """The input of a session in which a person says so."""
    return {"messages": [{"role": "user", "content": text}]}
