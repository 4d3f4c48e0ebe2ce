"""One call of a model: within the budget, in its turn, and in the log whatever comes of it."""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.errors import describe
from app.progress import ModelCall, current_step, record_model_call, recording_myself, report_progress
from workers.models.budget import Budget, within_budget
from workers.models.gate import PaidAnswer, Provider, current_gate
from workers.models.prices import list_price
from workers.settings import current_settings
from workers.tools.files import shown


@dataclass(slots=True)
class Recording:
    """Filled in while the call goes on. `cost` None: the list price counts, where there is one."""

    provider: Provider
    model: str
    request: Any
    budget: Budget
    budget_left_usd: float | None = None
    response: Any = None
    usage: dict[str, int] = field(default_factory=dict)
    cost: float | None = None
    error: str | None = None
    trace: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    """Of its model_event, once the call is over."""


@asynccontextmanager
async def recorded_call(provider: Provider, model: str, request: Mapping[str, Any]) -> AsyncIterator[Recording]:
    """The block makes one call. Its failure is recorded and goes on its way.

    Asks a person where the budget is reached; raises NotNow where the provider wants to be left alone.
    """
    gate = current_gate()
    spending = await gate.spending()
    budget = within_budget(spending, current_settings())
    recording = Recording(provider, model, request, budget, budget.left_usd(spending))
    async with gate.admit(provider):
        started = time.monotonic()
        try:
            with recording_myself():
                yield recording
        except BaseException as error:
            recording.error = describe(error)
            raise
        finally:
            await _record(recording, digest_of(provider, model, request), time.monotonic() - started)


async def _record(recording: Recording, digest: str, seconds: float) -> None:
    cost = recording.cost
    if cost is None and recording.usage:
        cost = list_price(recording.provider, recording.model, recording.usage)
    call = ModelCall(
        agent=current_step().agent,
        provider=recording.provider,
        model=recording.model,
        request=storable(recording.request),
        response=storable(recording.response),
        usage=recording.usage,
        cost=cost,
        duration_ms=round(seconds * 1000, 1),
        error=None if recording.error is None else shown(recording.error)[:4000],
        trace={"request_digest": digest, **recording.trace},
    )
    recording.offset = await record_model_call(call)


async def paid_answer(
    provider: Provider, model: str, request: Mapping[str, Any], *, whole_session: bool = False
) -> PaidAnswer | None:
    """What the same request was answered before this attempt; it is not paid for twice."""
    found = await current_gate().paid_answer(digest_of(provider, model, request), whole_session=whole_session)
    if found is not None:
        details = {"answered_at": found.offset, "provider": provider}
        await report_progress(0.5, "♻️ The answer is in the log already", details=details)
    return found


def digest_of(provider: Provider, model: str, request: Mapping[str, Any]) -> str:
    content = orjson.dumps([provider, model, storable(request)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


def storable(value: Any) -> Any:
    """What a model or a file says may hold NUL and lone surrogates, which the log refuses."""
    match value:
        case str():
            return shown(value)
        case dict() | Mapping():
            return {shown(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value
