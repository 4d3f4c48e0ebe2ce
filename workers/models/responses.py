"""The Responses API: a typed answer, whose reasoning and text are seen while they come."""

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from app.errors import ModelFaltered, ModelRefused
from app.progress import report_progress
from workers.models.chat import Answer, typed_answer
from workers.models.clients import client_of, model_of
from workers.models.gate import current_gate
from workers.models.recording import Recording, digest_of, paid_answer, recorded_call
from workers.models.thinking import Thinking
from workers.settings import current_settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.responses import ResponseStreamEvent

T = TypeVar("T", bound=BaseModel)
SEEN_AT = 0.6
"""The progress that the thinking is reported at."""


async def respond(wanted: type[T], *, instructions: str, question: str) -> Answer[T]:
    """One question, answered in a stream. An answer that is not of the `wanted` type is an answer, not an error.

    In background mode an attempt takes up the response that an earlier one, which was lost, had started.
    `wanted` and the models in it forbid extra fields and have no defaults: a strict schema takes no others.
    """
    settings = current_settings()
    in_background = settings.openai_background
    model = model_of("openai", settings)
    request = {"instructions": instructions, "input": question, "text_format": wanted.model_json_schema()}
    if paid := await paid_answer("openai", model, request):
        return typed_answer(wanted, paid.response["text"], paid.offset)
    async with recorded_call("openai", model, request) as recording, client_of("openai", settings) as client:
        from openai import NotFoundError  # noqa: PLC0415 - client_of has loaded it

        reading = _Reading(recording, digest_of("openai", model, request), in_background=in_background)
        async with Thinking(SEEN_AT) as thinking:
            try:
                events = await _taken_up(client, reading.digest) if in_background else None
                if events is None:
                    events = await _begun(client, wanted, model, request, in_background=in_background)
                await reading.all_of(events, thinking)
            except NotFoundError as error:
                raise ModelRefused(f"{client.base_url} has no Responses API or no model {model}: {error}") from error
            finally:
                recording.response = {"text": reading.text, "response_id": recording.trace.get("response_id")}
    return typed_answer(wanted, reading.text, recording.offset)


async def _begun(
    client: "AsyncOpenAI", wanted: type[BaseModel], model: str, request: dict[str, Any], *, in_background: bool
) -> "AsyncStream[ResponseStreamEvent]":
    from openai import omit  # noqa: PLC0415

    # Not the SDK's own parsing stream: it stumbles over the events of most compatible servers, which leave out
    # indices, and drops what an answer of another type has cost.
    return await client.responses.create(
        model=model,
        instructions=request["instructions"],
        input=request["input"],
        text={
            "format": {
                "type": "json_schema",
                "name": wanted.__name__,
                "schema": request["text_format"],
                "strict": True,
            }
        },
        reasoning={"summary": "auto"} if model.startswith(("gpt-5", "o")) else omit,
        background=True if in_background else omit,
        stream=True,
    )


async def _taken_up(client: "AsyncOpenAI", digest: str) -> "AsyncStream[ResponseStreamEvent] | None":
    """The response that an earlier attempt started; None if there is none, or the provider forgot it."""
    from openai import NotFoundError  # noqa: PLC0415

    started = await current_gate().started_response(digest)
    if started is None:
        return None
    try:
        events = await client.responses.retrieve(started, stream=True)
    except NotFoundError:
        return None
    await report_progress(SEEN_AT, f"🔁 Taking up the response {started}, which went on at the provider")
    return events


class _Reading:
    """What came of a response, as its events say it."""

    def __init__(self, recording: Recording, digest: str, *, in_background: bool) -> None:
        self._recording = recording
        self._in_background = in_background
        self._is_whole = False
        self.digest = digest
        self.text = ""

    async def all_of(self, events: "AsyncStream[ResponseStreamEvent]", thinking: Thinking) -> None:
        async with events:
            async for event in events:
                await self._take(event, thinking)
        if not self._is_whole:
            raise ModelFaltered("the stream of the response broke off")

    async def _take(self, event: Any, thinking: Thinking) -> None:
        match event.type:
            case "response.created":
                self._recording.trace["response_id"] = event.response.id
                if self._in_background:
                    details = {"response_id": event.response.id, "request_digest": self.digest}
                    await report_progress(SEEN_AT, "📡 The response goes on at the provider", details=details)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                thinking.say(event.delta, kind="reasoning")
            case "response.output_text.delta":
                self.text += event.delta
                thinking.say(event.delta, kind="text")
            case "response.completed" | "response.incomplete":  # at a limit: half an answer is one that cannot be used
                self._is_whole = True
                self._note_usage(event.response)
            case "response.failed":
                self._note_usage(event.response)
                raise ModelFaltered(f"the response failed: {event.response.error}")
            case _:
                pass

    def _note_usage(self, response: Any) -> None:
        self._recording.model = getattr(response, "model", None) or self._recording.model
        if usage := getattr(response, "usage", None):
            self._recording.usage = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
