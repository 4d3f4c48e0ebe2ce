"""A local server that speaks the providers' protocols and says what a test scripted.

`/v1/chat/completions` and `/v1/responses` are OpenAI's, `/perplexity/chat/completions` is Perplexity's, and
`/anthropic/v1/messages` is what the Claude CLI talks to. Each takes the next reply of its own script.
"""

import asyncio
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.config import Settings

Endpoint = Literal["chat", "responses", "perplexity", "messages"]


@dataclass
class Reply:
    """`hold`: the answer, or its second half, comes only after `release` of the server."""

    text: str = ""
    reasoning: str = ""
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None
    fault: Literal["malformed", "truncated"] | None = None
    hold: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    tokens: tuple[int, int] = (1000, 100)


class ModelServer:
    def __init__(self) -> None:
        self.script: dict[Endpoint, deque[Reply]] = defaultdict(deque)
        self.requests: dict[Endpoint, list[dict[str, Any]]] = defaultdict(list)
        self.keys: set[str] = set()
        self.reached = threading.Event()
        """Set when a held reply was asked for."""
        self._released = threading.Event()
        self._background: dict[str, Reply] = {}
        self._numbers = count(1)
        self.url = ""

    def says(self, endpoint: Endpoint, *replies: Reply) -> None:
        self.script[endpoint].extend(replies)

    def release(self) -> None:
        """All that are held now; later ones are held again."""
        released, self._released = self._released, threading.Event()
        released.set()

    def settings(self) -> dict[str, str]:
        """For a worker's environment; with them every agent has a model."""
        return {
            "OPENAI_API_KEY": "sk-test-openai-0123456789abcdef",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "STELLWERK_OPENAI_MODEL": "gpt-5.1",
            "PERPLEXITY_API_KEY": "pplx-test0123456789abcdef",
            "STELLWERK_PERPLEXITY_BASE_URL": f"{self.url}/perplexity",
            "ANTHROPIC_API_KEY": "sk-ant-test-0123456789abcdef",
            "ANTHROPIC_BASE_URL": f"{self.url}/anthropic",
        }

    def configured(self, **more: Any) -> Settings:
        """Returns the same settings, and more, for an agent that runs without a worker."""
        named = {name.removeprefix("STELLWERK_").lower(): value for name, value in self.settings().items()}
        return Settings(**(named | more))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/perplexity/chat/completions", self._perplexity, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/responses/{id}", self._taken_up, methods=["GET"]),
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/anthropic/v1/messages", self._messages, methods=["POST"]),
                Route("/anthropic/v1/models", self._models, methods=["GET"]),
            ]
        )

    async def _next(self, endpoint: Endpoint, request: Request) -> Reply | Response:
        """The scripted reply, or the error that it is."""
        self.requests[endpoint].append(await request.json())
        self.keys.add(request.headers.get("authorization") or request.headers.get("x-api-key") or "")
        if not self.script[endpoint]:
            return JSONResponse({"error": {"message": f"nothing is scripted for {endpoint}"}}, 400)
        reply = self.script[endpoint].popleft()
        if reply.status != 200:
            kinds = {429: "rate_limit_error", 529: "overloaded_error"}
            error = {"message": reply.text, "type": kinds.get(reply.status, "api_error"), "code": reply.code}
            return JSONResponse({"type": "error", "error": error}, reply.status, reply.headers)
        return reply

    async def _wait(self, reply: Reply) -> None:
        if reply.hold:
            reply.hold = False  # whoever asks again, or takes it up, gets it
            released = self._released
            self.reached.set()
            await asyncio.to_thread(released.wait)

    async def _chat(self, request: Request) -> Response:
        return await self._completion("chat", request)

    async def _perplexity(self, request: Request) -> Response:
        return await self._completion("perplexity", request)

    async def _completion(self, endpoint: Endpoint, request: Request) -> Response:
        reply = await self._next(endpoint, request)
        if isinstance(reply, Response):
            return reply
        await self._wait(reply)
        if reply.fault == "malformed":
            return Response('{"id": "chatcmpl-1", "choices": [{', media_type="application/json")
        if reply.fault == "truncated":
            return StreamingResponse(_cut(b'{"id": "chatcmpl-1"'), media_type="application/json")
        body = {
            "id": f"chatcmpl-{next(self._numbers)}",
            "object": "chat.completion",
            "created": 1,
            "model": self.requests[endpoint][-1]["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply.text}}],
            "usage": _chat_usage(reply),
        }
        return JSONResponse(body | reply.extra, headers={"x-request-id": f"req-{next(self._numbers)}"})

    async def _responses(self, request: Request) -> Response:
        reply = await self._next("responses", request)
        if isinstance(reply, Response):
            return reply
        identity = f"resp_{next(self._numbers)}"
        if self.requests["responses"][-1].get("background"):
            self._background[identity] = reply
        return StreamingResponse(self._response_events(identity, reply), media_type="text/event-stream")

    async def _taken_up(self, request: Request) -> Response:
        identity = request.path_params["id"]
        reply = self._background.get(identity)
        if reply is None:
            return JSONResponse({"error": {"message": "no such response"}}, 404)
        return StreamingResponse(self._response_events(identity, reply), media_type="text/event-stream")

    async def _response_events(self, identity: str, reply: Reply) -> AsyncIterator[bytes]:
        numbers = count()
        base = {"id": identity, "object": "response", "created_at": 1, "model": "gpt-5.1", "output": []}
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [],
        }
        part = {"type": "output_text", "text": "", "annotations": []}

        def event(kind: str, **fields: Any) -> bytes:
            return _sse(kind, {"type": kind, "sequence_number": next(numbers), **fields})

        where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield event("response.created", response=base | {"status": "in_progress"})
        for words in _pieces(reply.reasoning):
            yield event(
                "response.reasoning_summary_text.delta", item_id="rs_1", output_index=0, summary_index=0, delta=words
            )
        yield event("response.output_item.added", output_index=0, item=message)
        yield event("response.content_part.added", **where, part=part)
        pieces = list(_pieces(reply.text))
        for words in pieces[: len(pieces) // 2]:
            yield event("response.output_text.delta", **where, delta=words, logprobs=[])
        await self._wait(reply)
        if reply.fault == "malformed":
            yield b"event: response.output_text.delta\ndata: {not json\n\n"
        if reply.fault is not None:
            return
        for words in pieces[len(pieces) // 2 :]:
            yield event("response.output_text.delta", **where, delta=words, logprobs=[])
        yield event("response.output_text.done", **where, text=reply.text, logprobs=[])
        whole = message | {"content": [part | {"text": reply.text}]}
        yield event("response.output_item.done", output_index=0, item=whole)
        usage = {"input_tokens": reply.tokens[0], "output_tokens": reply.tokens[1], "total_tokens": sum(reply.tokens)}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]  # one level deeper
        yield event("response.completed", response=base | {"status": "completed", "output": [whole], "usage": usage})

    async def _messages(self, request: Request) -> Response:
        reply = await self._next("messages", request)
        if isinstance(reply, Response):
            return reply
        return StreamingResponse(self._message_events(reply), media_type="text/event-stream")

    async def _message_events(self, reply: Reply) -> AsyncIterator[bytes]:
        usage = {"input_tokens": reply.tokens[0], "output_tokens": 1}
        message: dict[str, Any] = {
            "id": f"msg_{next(self._numbers)}",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-5-5",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield _event("message_start", message=message)
        blocks: list[tuple[dict[str, Any], dict[str, Any]]] = []
        if reply.text:
            blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": reply.text}))
        for name, arguments in reply.tools:
            start = {"type": "tool_use", "id": f"toolu_{next(self._numbers)}", "name": name, "input": {}}
            blocks.append((start, {"type": "input_json_delta", "partial_json": json.dumps(arguments)}))
        for index, (start, delta) in enumerate(blocks):
            yield _event("content_block_start", index=index, content_block=start)
            await self._wait(reply)
            if reply.fault == "malformed":
                yield b"event: content_block_delta\ndata: {not json\n\n"
            if reply.fault is not None:
                return
            yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        end = {"stop_reason": "tool_use" if reply.tools else "end_turn", "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": reply.tokens[1]})
        yield _event("message_stop")

    async def _models(self, request: Request) -> Response:
        self.keys.add(request.headers.get("authorization") or request.headers.get("x-api-key") or "")
        return JSONResponse({"object": "list", "data": [{"id": "gpt-5.1", "object": "model"}]})


def _chat_usage(reply: Reply) -> dict[str, Any]:
    prompt, completion = reply.tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 12):
        yield text[start : start + 12]


def _sse(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def _event(kind: str, **fields: Any) -> bytes:
    return _sse(kind, {"type": kind, **fields})


async def _cut(begin: bytes) -> AsyncIterator[bytes]:
    yield begin
    raise ConnectionResetError  # uvicorn drops the connection, without the end of the body


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    config = uvicorn.Config(
        server.app(), log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    uvicorn_server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=uvicorn_server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release()
        uvicorn_server.should_exit = True
        thread.join(timeout=10)
        listening.close()
