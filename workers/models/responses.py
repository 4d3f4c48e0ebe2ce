"""The Responses API: a typed answer, whose reasoning and text are seen while they come."""

from typing import Any, TypeVar

import openai
from openai import AsyncOpenAI
from pydantic import BaseModel, ValidationError

from app.config import settings
from app.errors import ModelFaltered, ModelRefused
from app.progress import report_progress
from workers.models.chat import Answer, problem_in, typed_answer
from workers.models.clients import client_of, model_of
from workers.models.gate import current_gate
from workers.models.recording import Recording, digest_of, paid_answer, recorded_call
from workers.models.thinking import Thinking

T = TypeVar("T", bound=BaseModel)
SEEN_AT = 0.6
"""The progress that the thinking is reported at."""


async def respond(wanted: type[T], *, instructions: str, question: str) -> Answer[T]:
    """One question, answered in a stream. An answer that is not of the `wanted` type is an answer, not an error.

    In background mode an attempt takes up the response that an earlier one, which was lost, had started.
    """
    model = model_of("openai", settings())
    request = {"instructions": instructions, "input": question, "text_format": wanted.model_json_schema()}
    if paid := await paid_answer("openai", model, request):
        return typed_answer(wanted, paid.response["text"], paid.offset)
    digest = digest_of("openai", model, request)
    async with recorded_call("openai", model, request) as recording, client_of("openai") as client:
        reading = _Reading(client, recording, digest)
        async with Thinking(SEEN_AT) as thinking:
            try:
                problem = await reading.of(wanted, model, instructions, question, thinking)
            except openai.NotFoundError as error:
                raise ModelRefused(f"{client.base_url} has no Responses API or no model {model}: {error}") from error
            finally:
                recording.response = {"text": reading.text, "response_id": recording.trace.get("response_id")}
    if problem is not None:
        return Answer(reading.text, recording.offset, problem=problem)
    return typed_answer(wanted, reading.text, recording.offset)


class _CutOffError(Exception):
    """The provider ended the answer at a limit."""


class _Reading:
    def __init__(self, client: AsyncOpenAI, recording: Recording, digest: str) -> None:
        self._client = client
        self._recording = recording
        self._digest = digest
        self.text = ""

    async def of(
        self, wanted: type[BaseModel], model: str, instructions: str, question: str, thinking: Thinking
    ) -> str | None:
        """Reads the stream to its end; returns what is wrong with the answer's type."""
        started = await current_gate().started_response(self._digest) if settings().openai_background else None
        if started is not None:
            await report_progress(SEEN_AT, f"🔁 Taking up the response {started}, which goes on at the provider")
            manager = self._client.responses.stream(response_id=started, text_format=wanted)
        else:
            manager = self._client.responses.stream(
                model=model,
                instructions=instructions,
                input=question,
                text_format=wanted,
                reasoning={"summary": "auto"} if model.startswith(("gpt-5", "o")) else openai.omit,
                background=True if settings().openai_background else openai.omit,
            )
        try:
            async with manager as stream:
                async for event in stream:
                    await self._take(event, thinking)
                await stream.get_final_response()  # raises if there was none
        except ValidationError as error:  # the SDK's parsing, at the end of the text
            return problem_in(error)
        except _CutOffError:
            return "it was cut off at the limit of tokens"
        except (RuntimeError, AssertionError) as error:  # how the SDK says that events are missing
            raise ModelFaltered(f"the stream of the response broke off: {error}") from error
        return None

    async def _take(self, event: Any, thinking: Thinking) -> None:
        match event.type:
            case "response.created":
                self._recording.trace["response_id"] = event.response.id
                if settings().openai_background:
                    details = {"response_id": event.response.id, "request_digest": self._digest}
                    await report_progress(SEEN_AT, "📡 The response goes on at the provider", details=details)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                thinking.say(event.delta, kind="reasoning")
            case "response.output_text.delta":
                self.text += event.delta
                thinking.say(event.delta, kind="text")
            case "response.completed":
                self._note_usage(event.response)
            case "response.incomplete":
                self._note_usage(event.response)
                raise _CutOffError
            case "response.failed":
                self._note_usage(event.response)
                raise ModelFaltered(f"the response failed: {event.response.error}")
            case _:
                pass

    def _note_usage(self, response: Any) -> None:
        self._recording.model = response.model or self._recording.model
        if response.usage is not None:
            usage = response.usage
            self._recording.usage = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
