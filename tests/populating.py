"""Sessions in every state, made by the functions that workers and the gateway call, without running a graph."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import text

from app.database import transaction
from app.events import artifacts
from app.events.types import DEFAULT_PROJECT
from app.principals.model import OWNER
from app.progress import Report, SessionId
from app.sessions import attempts, control, reports, service, supersteps
from app.sessions.attempts import Claim
from app.sessions.model import Advance, NewSession, NewStep
from app.unit_of_work import Backends

# As the test's gateway registers it (serving.py).
SERVED = frozenset({("repair", "1")})


async def created(
    backends: Backends, task: str = "fix the lint errors", *, project: str = DEFAULT_PROJECT, **graph_input: Any
) -> SessionId:
    new = NewSession(task=task, input=graph_input)
    view, _ = await service.create_session(backends, new, principal=OWNER, project=project)
    return view.session_id


async def running(
    backends: Backends, task: str = "fix the lint errors", *, project: str = DEFAULT_PROJECT, **graph_input: Any
) -> Claim:
    """A session whose first step is held by a worker, and has reported once."""
    return await begun(backends, await created(backends, task, project=project, **graph_input))


async def begun(backends: Backends, session_id: SessionId) -> Claim:
    """A created session goes on like that."""
    step = NewStep("architect", "architect", "default", None, 3, timedelta(hours=1))
    await advance(backends, session_id, steps=[step])
    claim = await attempts.claim_step(
        backends, session_id, 1, 1, agent="architect", lease=uuid4(), worker="worker-1", served=SERVED, alone=False
    )
    assert claim is not None
    await report(backends, claim, 0.5)
    return claim


async def report(
    backends: Backends, claim: Claim, progress: float, message: str = "📡 half way", **details: Any
) -> int:
    said = Report(claim.step.agent, message, progress, details=details)
    return await reports.append_report(backends, claim.token, said)


async def waiting(
    backends: Backends,
    question: Any = "may I?",
    *,
    project: str = DEFAULT_PROJECT,
    answer_schema: dict[str, Any] | None = None,
) -> SessionId:
    claim = await running(backends, "ask first", project=project)
    await attempts.wait_step(
        backends,
        claim,
        question=question,
        interrupt_id="interrupt-2",
        node_snapshot=b"state",
        answer_schema=answer_schema,
    )
    return claim.session.session_id


async def ended(
    backends: Backends,
    status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
    *,
    update: Any = None,
    project: str = DEFAULT_PROJECT,
) -> SessionId:
    claim = await running(backends, project=project)
    session_id = claim.session.session_id
    match status:
        case "succeeded":
            await attempts.complete_step(backends, claim, update or {"plan": ["ruff"]}, commit="c0ffee")
            patch, state = b"--- a/x.py\n+++ b/x.py\n", b'{"plan":["ruff"]}'
            await advance(backends, session_id, finished=True, patch=patch, state=state)
        case "failed":
            await attempts.fail_step(backends, claim, "no such tool", retryable=False)
        case "cancelled":
            await control.cancel_session(backends, session_id, principal=OWNER, reason="enough")
    return session_id


async def advance(backends: Backends, session_id: SessionId, **found: Any) -> None:
    owed = await supersteps.read_owed(backends, session_id)
    assert owed is not None
    deltas = [(step.agent, step.update_data) for step in owed.steps]
    fold = Advance(
        snapshot=b"snapshot",
        deltas=deltas,
        **({"steps": (), "base_commit": None, "finished": False, "result": {"summary": "done"}} | found),
    )
    assert await supersteps.commit_advance(backends, owed, fold)


@dataclass(frozen=True, slots=True)
class Population:
    """One of each, and a content that an event of the succeeded one names."""

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


async def populate(backends: Backends, *, project: str = DEFAULT_PROJECT) -> Population:
    succeeded = await ended(backends, "succeeded", update={"plan": ["x" * 400_000]}, project=project)
    async with transaction(backends.engine) as db:
        artifact = await db.scalar(
            text("SELECT encode(digest, 'hex') FROM artifacts WHERE stream_id = :id AND media_type = :json"),
            {"id": succeeded, "json": artifacts.JSON},
        )
    return Population(
        created=await created(backends, project=project),
        running=await running(backends, project=project),
        waiting=await waiting(backends, project=project),
        succeeded=succeeded,
        failed=await ended(backends, "failed", project=project),
        cancelled=await ended(backends, "cancelled", project=project),
        artifact=artifact,
    )
