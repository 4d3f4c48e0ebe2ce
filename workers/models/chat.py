"""Chat completions: a typed answer by structured output, or a text with the sources that it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError

from app.errors import ModelFaltered
from workers.models.clients import client_of, model_of
from workers.models.gate import Provider
from workers.models.recording import Recording, paid_answer, recorded_call
from workers.settings import current_settings

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

T = TypeVar("T", bound=BaseModel)
MAX_PROBLEM = 500


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str

    def param(self) -> "ChatCompletionMessageParam":
        return cast("ChatCompletionMessageParam", {"role": self.role, "content": self.content})


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the model said, at `offset` of the log; `parsed` is None for the reason in `problem`."""

    text: str
    offset: int
    parsed: T | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A text and what it rests on, as far as the provider says."""

    text: str
    citations: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)


async def ask(wanted: type[T], messages: Sequence[Message], *, provider: Provider = "openai") -> Answer[T]:
    """One question. An answer that is not of the `wanted` type is an answer, not an error."""
    settings = current_settings()
    model = model_of(provider, settings)
    sent = [message.param() for message in messages]
    request = {"messages": sent, "response_format": wanted.model_json_schema()}
    if paid := await paid_answer(provider, model, request):
        return typed_answer(wanted, _content(paid.response), paid.offset)
    async with recorded_call(provider, model, request) as recording, client_of(provider, settings) as client:
        from openai import LengthFinishReasonError  # noqa: PLC0415 - client_of has loaded it

        raw = await client.chat.completions.with_raw_response.parse(model=model, messages=sent, response_format=wanted)
        body = _note(recording, raw.text, raw.request_id)
        try:
            parsed, problem = raw.parse().choices[0].message.parsed, None
        except ValidationError as error:
            parsed, problem = None, problem_in(error)
        except LengthFinishReasonError:
            parsed, problem = None, "it was cut off at the limit of tokens"
    text = _content(body)
    if parsed is None and problem is None:
        problem = "the model refused, or said nothing"
    return Answer(text, recording.offset, parsed, problem)


async def search(question: str, *, provider: Provider) -> Found:
    """A question to a model that looks things up. In one session the same question is paid for once."""
    settings = current_settings()
    model = model_of(provider, settings)
    sent = [Message("user", question).param()]
    request: dict[str, Any] = {"messages": sent}
    if paid := await paid_answer(provider, model, request, whole_session=True):
        return _found(paid.response)
    async with recorded_call(provider, model, request) as recording, client_of(provider, settings) as client:
        raw = await client.chat.completions.with_raw_response.create(model=model, messages=sent)
        body = _note(recording, raw.text, raw.request_id)
        return _found(body)


def _note(recording: Recording, text: str, request_id: str | None) -> Mapping[str, Any]:
    """Puts the answer into the recording before anything is made of it. Raises ValueError for what is no completion."""
    recording.response = text
    body = orjson.loads(text)
    if not isinstance(body, dict) or not body.get("choices"):
        raise ModelFaltered(f"{recording.provider} sent no completion")
    recording.response = body
    usage = body.get("usage") or {}
    recording.usage = {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "output_tokens": usage.get("completion_tokens") or 0,
    }
    recording.cost = (usage.get("cost") or {}).get("total_cost")  # Perplexity says what it takes
    recording.model = body.get("model") or recording.model
    ids = {"request_id": request_id, "response_id": body.get("id")}
    recording.trace |= {name: str(value) for name, value in ids.items() if value}
    return body


def _content(body: Mapping[str, Any]) -> str:
    return body["choices"][0]["message"].get("content") or ""


def typed_answer(wanted: type[T], text: str, offset: int) -> Answer[T]:
    try:
        return Answer(text, offset, wanted.model_validate_json(text))
    except ValidationError as error:
        return Answer(text, offset, problem=problem_in(error))


def _found(body: Mapping[str, Any]) -> Found:
    return Found(_content(body), list(body.get("citations") or []), list(body.get("search_results") or []))


def problem_in(error: ValidationError) -> str:
    """One line, which the model is shown when it is asked again."""
    wrong = [f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}" for e in error.errors(include_url=False)]
    return "; ".join(wrong)[:MAX_PROBLEM]
