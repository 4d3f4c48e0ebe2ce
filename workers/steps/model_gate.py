"""The gate of one attempt: limits in Redis, spending and earlier answers from the log."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.sessions import model_calls
from app.sessions.attempts import Claim
from app.unit_of_work import Backends
from workers.models.budget import QUESTION
from workers.models.gate import PaidAnswer, Provider, Spending
from workers.models.limits import ModelLimits


@dataclass(frozen=True, slots=True)
class AttemptGate:
    claim: Claim
    backends: Backends
    limits: ModelLimits

    def admit(self, provider: Provider) -> AbstractAsyncContextManager[None]:
        return self.limits.admit(provider)

    async def spending(self) -> Spending:
        row = self.claim.step
        spent, raises = await model_calls.read_spending(
            self.backends, row.session_id, asking_step=row.step, question=QUESTION
        )
        return Spending(spent.usd, spent.tokens, tuple(raises))

    async def paid_answer(self, digest: str, *, whole_session: bool) -> PaidAnswer | None:
        row = self.claim.step
        step = None if whole_session else row.step
        found = await model_calls.find_answer(self.backends, row.session_id, digest, step=step)
        return None if found is None else PaidAnswer(found.offset, found.response)

    async def started_response(self, digest: str) -> str | None:
        row = self.claim.step
        return await model_calls.find_started_response(self.backends, row.session_id, digest, step=row.step)
