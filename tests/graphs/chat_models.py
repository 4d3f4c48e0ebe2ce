"""A LangChain chat model that says what a test wants, at once or in pieces, as models of providers do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable


class Scripted(BaseChatModel):
    """Gives its answers one after the other, the last one for ever; an exception among them is raised."""

    answers: list[Any]
    model_name: str = "gpt-5.1"
    provider: str = "openai"
    gate: Any = None
    """An asyncio.Event that each piece but the first waits for."""
    asked: int = 0
    streamed: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        return self.bind(tools=[getattr(tool, "name", str(tool)) for tool in tools])

    def _next(self) -> AIMessage:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, BaseException):
            raise answer
        return AIMessage(answer) if isinstance(answer, str) else answer.model_copy(deep=True)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.streamed += 1
        for piece in _pieces(self._next()):
            yield ChatGenerationChunk(message=piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number, chunk in enumerate(self._stream(messages)):
            if number and self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            yield chunk


class Plain(Scripted):
    """One that cannot stream."""

    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """Words of five characters, then calls of tools, then what is known at the end."""
    reasoning = message.additional_kwargs.get("reasoning_content", "")
    for start in range(0, len(reasoning), 5):
        yield AIMessageChunk(
            content="", id=message.id, additional_kwargs={"reasoning_content": reasoning[start : start + 5]}
        )
    text = message.text
    for start in range(0, len(text), 5):
        yield AIMessageChunk(content=text[start : start + 5], id=message.id)
    for index, call in enumerate(message.tool_calls):
        chunk = tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        yield AIMessageChunk(content="", id=message.id, tool_call_chunks=[chunk])
    yield AIMessageChunk(
        content="", id=message.id, usage_metadata=message.usage_metadata, response_metadata=message.response_metadata
    )


def usage(read: int, written: int) -> Any:
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
