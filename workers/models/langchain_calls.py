"""Calls of LangChain's models and tools: recorded without a line in the agent, and heard while they go on.

LangGraph hands the callbacks of a node's config down to all that the node calls. That works from any thread; only
what is called in a thread without its context (see `running_step`) is not seen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp, ParentCommand

from app.config import Settings
from app.errors import describe
from app.progress import CurrentStep, ModelCall, ToolCall, is_recorded_by_caller
from app.redaction import Redactor
from workers.models.call_recorder import CallRecorder, Words, since
from workers.models.langchain_messages import (
    answer_of,
    ids_of,
    is_from_cache,
    model_of,
    plain,
    plain_message,
    tool_answer,
    usage_of,
    words_in,
)

T = TypeVar("T")
UNKNOWN = "unknown"


@asynccontextmanager
async def recording_calls(
    step: CurrentStep, settings: Settings, redactor: Redactor
) -> AsyncIterator[list[BaseCallbackHandler]]:
    """A node runs in here, with these callbacks in its config: what it called is in the log before its end is.

    A node that is cancelled does not wait. Raises the first thing that the log raised when it was to take a call.
    """
    if settings.record_models == "off":
        yield []
        return
    recorder = CallRecorder(step, redactor)
    try:
        yield [StreamingCalls(recorder) if settings.record_models == "full" else Calls(recorder)]
    except asyncio.CancelledError:
        recorder.abandon()
        raise
    except BaseException:
        await recorder.close()
        raise
    await recorder.close()


@dataclass(frozen=True, slots=True)
class _OpenModel:
    agent: str
    provider: str
    model: str
    request: Any
    trace: Mapping[str, str]
    words: Words | None
    started: float = field(default_factory=time.monotonic)

    def ended(self, result: LLMResult | None, error: str | None) -> ModelCall:
        usage, cost, trace = {}, None, dict(self.trace)
        if result is not None:
            trace |= ids_of(result)
            if is_from_cache(result):
                cost = 0.0
                trace["answered_by"] = "cache"
            else:
                usage = usage_of(result)
        return ModelCall(
            agent=self.agent,
            provider=self.provider,
            model=self.model if self.model != UNKNOWN or result is None else model_of(result) or UNKNOWN,
            request=self.request,
            response=None if result is None else answer_of(result),
            usage=usage,
            cost=cost,
            duration_ms=since(self.started),
            error=error,
            trace=trace,
        )

    def unfinished(self, error: str) -> ModelCall:
        return self.ended(None, error)


@dataclass(frozen=True, slots=True)
class _OpenTool:
    agent: str
    name: str
    arguments: Any
    call_id: str | None
    words: None = None
    started: float = field(default_factory=time.monotonic)

    def ended(self, answer: Any, error: str | None) -> ToolCall:
        return ToolCall(self.agent, self.name, self.arguments, answer, since(self.started), error, self.call_id)

    def unfinished(self, error: str) -> ToolCall:
        return self.ended(None, error)


class Calls(BaseCallbackHandler):
    """Tells a recorder of each call. What begins or says something never waits; what ends does, for the log."""

    run_inline = True  # in the caller's own task, so words come in their order
    ignore_chain = True
    ignore_custom_event = True

    def __init__(self, recorder: CallRecorder) -> None:
        self._recorder = recorder

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._model_begins(run_id, {"messages": [plain_message(message) for message in messages[0]]}, kwargs)

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        self._model_begins(run_id, {"prompt": prompts[0]}, kwargs)

    def _model_begins(self, run_id: UUID, request: dict[str, Any], told: Mapping[str, Any]) -> None:
        if is_recorded_by_caller():
            return
        metadata, parameters = told.get("metadata") or {}, told.get("invocation_params") or {}
        names = (metadata.get("ls_model_name"), parameters.get("model"), parameters.get("model_name"))
        model = next((name for name in names if isinstance(name, str) and name), UNKNOWN)
        is_heard = self._is_heard(told.get("tags") or ())
        call = _OpenModel(
            agent=self._recorder.step.agent,
            provider=str(metadata.get("ls_provider") or UNKNOWN),
            model=model,
            request=request
            | {"parameters": {name: plain(value) for name, value in parameters.items() if value is not None}},
            trace={"run_id": str(run_id)},
            words=Words({"model": model, "run_id": str(run_id)}) if is_heard else None,
        )
        self._recorder.begin(run_id, call)

    def _is_heard(self, tags: Sequence[str]) -> bool:
        return False

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        await self._model_ends(run_id, response, None)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        result = kwargs.get("response")
        await self._model_ends(run_id, result if isinstance(result, LLMResult) else None, self._told(error))

    def _told(self, error: BaseException) -> str:
        return describe(error, self._recorder.redactor.text)

    async def _model_ends(self, run_id: UUID, result: LLMResult | None, error: str | None) -> None:
        begun = self._recorder.begun(run_id)
        if isinstance(begun, _OpenModel):
            await self._recorder.end(run_id, begun.ended(result, error))

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        inputs, call_id = kwargs.get("inputs"), kwargs.get("tool_call_id")
        call = _OpenTool(
            agent=self._recorder.step.agent,
            name=_name(serialized, kwargs),
            arguments=plain(input_str if inputs is None else inputs),
            call_id=call_id if isinstance(call_id, str) else None,
        )
        self._recorder.begin(run_id, call)

    async def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        await self._tool_ends(run_id, *tool_answer(output))

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if isinstance(error, ParentCommand):  # it hands over to another node, and has done its work
            await self._tool_ends(run_id, *tool_answer(error.args[0]))
        elif isinstance(error, GraphBubbleUp):  # it asked a question, and runs again with the answer
            self._recorder.forget(run_id)
        else:
            await self._tool_ends(run_id, None, self._told(error))

    async def _tool_ends(self, run_id: UUID, answer: Any, error: str | None) -> None:
        begun = self._recorder.begun(run_id)
        if isinstance(begun, _OpenTool):
            await self._recorder.end(run_id, begun.ended(answer, error))

    def on_retriever_start(self, serialized: dict[str, Any], query: str, *, run_id: UUID, **kwargs: Any) -> None:
        name = _name(serialized, kwargs)
        self._recorder.begin(run_id, _OpenTool(self._recorder.step.agent, name, {"query": query}, None))

    async def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        found = [{"content": document.page_content, "metadata": plain(document.metadata)} for document in documents]
        await self._tool_ends(run_id, found, None)

    async def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        await self._tool_ends(run_id, None, self._told(error))


class StreamingCalls(Calls):
    """Also hears what models say. A model that can stream does so where it is only invoked: LangChain asks whether a
    handler has the two `tap_…` methods, and gives the caller the same message put together from its pieces."""

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:
        return output

    def _is_heard(self, tags: Sequence[str]) -> bool:
        return TAG_NOSTREAM not in tags

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        if isinstance(chunk, ChatGenerationChunk):
            for kind, text in words_in(chunk.message):
                self._recorder.say(run_id, kind, text)
        elif isinstance(token, str):
            self._recorder.say(run_id, "text", token)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """LangChain's newer way of streaming, which a node may use by itself."""
        match event:
            case {"event": "content-block-delta", "delta": {"type": "text-delta", "text": str(text)}}:
                self._recorder.say(run_id, "text", text)
            case {"event": "content-block-delta", "delta": {"type": "reasoning-delta", "reasoning": str(text)}}:
                self._recorder.say(run_id, "reasoning", text)


def _name(serialized: Mapping[str, Any] | None, told: Mapping[str, Any]) -> str:
    return str((serialized or {}).get("name") or told.get("name") or UNKNOWN)
