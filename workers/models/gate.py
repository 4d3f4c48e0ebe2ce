"""What a model's call needs of its surroundings; the step runner provides it, so agents know no SQL and no Redis."""

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.errors import NoCurrentStep

Provider = Literal["openai", "perplexity", "claude"]


@dataclass(frozen=True, slots=True)
class Spending:
    """What the session has spent, and what people answered when its other steps asked for a larger budget."""

    usd: float
    tokens: int
    raises: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """An answer that the session has got already, at `offset` of its log."""

    offset: int
    response: Any


class ModelGate(Protocol):
    def admit(self, provider: Provider) -> AbstractAsyncContextManager[None]:
        """Waits for a free place among all workers' calls; the block is one call. Raises NotNow.

        A failure that leaves the block as Unavailable or TimeoutError counts against the provider.
        """
        ...

    async def spending(self) -> Spending: ...

    async def paid_answer(self, digest: str, *, whole_session: bool) -> PaidAnswer | None:
        """What the same request was answered in an earlier attempt of this step, or anywhere in the session."""
        ...

    async def started_response(self, digest: str) -> str | None:
        """The provider's id of the response that an earlier attempt of this step started for the same request."""
        ...


model_gate: ContextVar[ModelGate] = ContextVar("model_gate")


def current_gate() -> ModelGate:
    """Raises NoCurrentStep outside of a step."""
    try:
        return model_gate.get()
    except LookupError:
        raise NoCurrentStep("There is no way to a model here; models are called in steps.") from None
