"""Sessions in every state, made by the functions that workers and the gateway call, without running a graph."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

from app.database import transaction
from app.events.artifacts import put_artifact
from app.progress import Report, SessionId
from app.sessions import attempts, service, supersteps
from app.sessions.attempts import Claim
from app.sessions.model import NewSession
from app.sessions.moves import NewStep
from app.sessions.supersteps import Advance
from app.sessions.unit import Services

# As the test's gateway registers it (serving.py).
SERVED = frozenset({("repair", "1")})


async def created(services: Services, task: str = "fix the lint errors", **graph_input: Any) -> SessionId:
    view, _ = await service.create_session(services, NewSession(task=task, input=graph_input), principal="owner")
    return view.session_id


async def running(services: Services, task: str = "fix the lint errors", **graph_input: Any) -> Claim:
    """A session whose first step is held by a worker, and has reported once."""
    session_id = await created(services, task, **graph_input)
    step = NewStep("architect", "architect", "default", "interrupt-1", None, 3, timedelta(hours=1))
    await advance(services, session_id, steps=[step])
    claim = await attempts.claim_step(
        services, session_id, 1, 1, lease=uuid4(), worker="worker-1", served=SERVED, alone=False
    )
    assert claim is not None
    await report(services, claim, 0.5)
    return claim


async def report(
    services: Services, claim: Claim, progress: float, message: str = "📡 half way", **details: Any
) -> int:
    said = Report(claim.step.agent, message, progress, details=details)
    return await service.append_report(services, claim.token, said)


async def waiting(services: Services, question: Any = "may I?") -> SessionId:
    claim = await running(services, "ask first")
    await attempts.wait_step(services, claim, question=question, interrupt_id="interrupt-2", node_snapshot=b"state")
    return claim.session.session_id


async def ended(
    services: Services, status: Literal["succeeded", "failed", "cancelled"] = "succeeded", *, update: Any = None
) -> SessionId:
    claim = await running(services)
    session_id = claim.session.session_id
    match status:
        case "succeeded":
            await attempts.complete_step(services, claim, update or {"plan": ["ruff"]}, commit="c0ffee")
            await advance(services, session_id, finished=True, patch=b"--- a/x.py\n+++ b/x.py\n")
        case "failed":
            await attempts.fail_step(services, claim, "no such tool", retryable=False)
        case "cancelled":
            await service.cancel_session(services, session_id, principal="owner", reason="enough")
    return session_id


async def advance(services: Services, session_id: SessionId, **found: Any) -> None:
    owed = await supersteps.read_owed(services, session_id)
    assert owed is not None
    deltas = [(step.agent, step.update_data) for step in owed.steps]
    fold = Advance(
        snapshot=b"snapshot",
        deltas=deltas,
        **({"steps": (), "base_commit": None, "finished": False, "result": {"summary": "done"}} | found),
    )
    assert await supersteps.commit_advance(services, owed, fold)


@dataclass(frozen=True, slots=True)
class Population:
    """One of each, and a content that an event of the succeeded one could name."""

    created: SessionId
    running: Claim
    waiting: SessionId
    succeeded: SessionId
    failed: SessionId
    cancelled: SessionId
    artifact: str

    @property
    def closed(self) -> tuple[SessionId, ...]:
        return self.succeeded, self.failed, self.cancelled

    @property
    def open(self) -> tuple[SessionId, ...]:
        return self.created, self.running.session.session_id, self.waiting


async def populate(services: Services) -> Population:
    succeeded = await ended(services, "succeeded", update={"plan": ["x" * 400_000]})
    async with transaction(services.engine) as db:
        artifact = await put_artifact(db, succeeded, b'{"a":1}', media_type="application/json")
    return Population(
        created=await created(services),
        running=await running(services),
        waiting=await waiting(services),
        succeeded=succeeded,
        failed=await ended(services, "failed"),
        cancelled=await ended(services, "cancelled"),
        artifact=artifact,
    )
