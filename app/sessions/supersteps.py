"""What workers do with a session between its steps: read what is to be folded, and commit the fold.

The fold itself runs between the two, without lock and transaction, on the snapshot of one version; the commit
takes the stream's lock and checks that the version is still the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.config import settings
from app.database import transaction
from app.events import artifacts, encoding, read
from app.events.types import Recorded, StepEvent, WorkflowEvent
from app.progress import SessionId
from app.sessions import moves, repository, step_repository
from app.sessions.model import TERMINAL
from app.sessions.moves import Moving, NewStep
from app.sessions.repository import SessionRow
from app.sessions.service import end_session
from app.sessions.step_repository import StepRow
from app.sessions.unit import MAX_EVENTS, Services, Unit, unit, value_bytes


@dataclass(frozen=True, slots=True)
class Owed:
    """A session whose open superstep is complete: its row, and the steps to fold (none at the beginning)."""

    session: SessionRow
    steps: tuple[StepRow, ...]


@dataclass(frozen=True, slots=True)
class Advance:
    """What a fold found. `deltas` are (node, update); `result` counts when finished."""

    snapshot: bytes
    deltas: Sequence[tuple[str, Any]]
    steps: Sequence[NewStep]
    base_commit: str | None
    finished: bool
    result: Any = None
    patch: bytes | None = None


async def read_owed(services: Services, session_id: SessionId) -> Owed | None:
    """None when there is nothing to fold (yet, or any more). Raises NotFound."""
    async with transaction(services.engine) as db:
        session = await repository.session_row(db, session_id)
        if session.status in TERMINAL or session.status == "paused":
            return None
        if session.folded_superstep is None:
            return Owed(session, ())
        steps = await step_repository.steps_of_superstep(db, session_id, session.next_superstep)
    if not steps or any(step.status != "succeeded" for step in steps):
        return None
    return Owed(session, tuple(steps))


async def commit_advance(services: Services, owed: Owed, advance: Advance) -> bool:
    """False when another worker was quicker: then nothing was written, and there is nothing left to do."""
    session = owed.session
    numbered = list(enumerate(advance.steps, session.last_step + 1))
    queued = [_queued(number, step, superstep=session.next_superstep + 1) for number, step in numbered]
    if _fits_one_call(advance):
        deltas = [_delta(node, delta) for node, delta in advance.deltas]
        recorded = await _commit_fold(services.statements, session, advance, [*deltas, *queued])
    else:
        recorded = await _commit_in_parts(services, session, advance, queued)
    if recorded is None:
        return False
    for number, step in numbered:  # before readers are told: a worker waits for it
        services.dispatch.run_step(session.session_id, number, 1, queue=step.queue)
    services.push.publish(recorded)
    return True


def _fits_one_call(advance: Advance) -> bool:
    return (
        not advance.finished
        and len(advance.deltas) + len(advance.steps) <= MAX_EVENTS
        and all(artifacts.fits(delta, max_bytes=value_bytes()) for _, delta in advance.deltas)
    )


async def _commit_in_parts(
    services: Services, session: SessionRow, advance: Advance, queued: Sequence[StepEvent]
) -> list[Recorded] | None:
    """Tells readers itself, and leaves nothing to tell."""
    session_id = session.session_id
    async with unit(services, session_id) as work:
        recorded = await _commit_fold(work.db, session, advance, [])
        if recorded is None:
            return None
        work.recorded += recorded
        deltas = [_delta(node, await work.outsource(session_id, delta)) for node, delta in advance.deltas]
        await work.append(session_id, *deltas, *queued)
        if advance.finished:
            await _finish(work, session_id, advance)
    return []


async def _commit_fold(
    db: Moving, session: SessionRow, advance: Advance, events: Sequence[WorkflowEvent | StepEvent]
) -> list[Recorded] | None:
    return await moves.commit_fold(
        db,
        session,
        snapshot=advance.snapshot,
        base_commit=advance.base_commit,
        steps=advance.steps,
        events=[encoding.item(session.session_id, event) for event in events],
    )


def _delta(node: str, delta: Any) -> WorkflowEvent:
    return {"t": "workflow_event", "node": node, "delta": delta}


def _queued(number: int, step: NewStep, *, superstep: int) -> StepEvent:
    return {
        "t": "step_event",
        "step": number,
        "agent": step.agent,
        "status": "queued",
        "attempt": 1,
        "queue": step.queue,
        "superstep": superstep,
        "task_path": step.task_path,
    }


async def _finish(work: Unit, session_id: SessionId, advance: Advance) -> None:
    result = advance.result
    if advance.patch is not None:
        digest = await artifacts.put_artifact(work.db, session_id, advance.patch, media_type="text/x-diff")
        result = {**result, "patch_digest": digest}
    await end_session(work, session_id, "succeeded", result=result)


async def fail_session(services: Services, owed: Owed, reason: str) -> None:
    """Ends a session that cannot be folded; nothing happens if it moved on meanwhile."""
    session_id = owed.session.session_id
    async with unit(services, session_id) as work:
        session = await repository.session_row(work.db, session_id)
        if session.snapshot_version == owed.session.snapshot_version and session.status not in TERMINAL:
            await end_session(work, session_id, "failed", reason=reason)


async def park_session(services: Services, session_id: SessionId, reason: str) -> None:
    """The session waits with `reason`, until a worker that can go on with it takes it up."""
    async with unit(services, session_id) as work:
        session = await repository.session_row(work.db, session_id)
        if session.status in TERMINAL or (session.status == "waiting" and session.reason == reason):
            return
        await work.append(session_id, {"t": "session_event", "status": "waiting", "reason": reason})
        await repository.update_session(work.db, session_id, status="waiting", reason=reason)


async def is_served(services: Services, workflow: str, version: str) -> bool:
    """Whether any live worker serves this version."""
    async with transaction(services.engine) as db:
        return await repository.is_served(db, workflow, version)


@dataclass(frozen=True, slots=True)
class History:
    """What the log alone says of a session: its input, and each superstep's results by task path."""

    workflow: str
    version: str
    input: Any
    supersteps: tuple[dict[str, Any], ...]


async def read_history(services: Services, session_id: SessionId) -> History:
    """Reads the whole stream, page by page. Raises NotFound."""
    started: dict[str, Any] = {}
    queued: dict[int, tuple[int, str]] = {}
    results: dict[int, dict[str, Any]] = {}
    async with transaction(services.engine) as db:
        state = await read.stream_state(db, session_id)
        only = read.Filter(t=frozenset({"session_event", "step_event"}))
        after = 0
        while page := await read.read_page(db, state, after=after, limit=1000, only=only):
            after = page[-1].offset
            for entry in page:
                event = read.parse(entry)
                if event["t"] == "session_event" and event["status"] == "created":
                    started = event
                elif event["t"] == "step_event" and "task_path" in event:
                    queued[event["step"]] = (event["superstep"], event["task_path"])
                elif event["t"] == "step_event" and event["status"] == "succeeded":
                    superstep, path = queued[event["step"]]
                    update = await artifacts.fetch(db, session_id, event["update"])
                    results.setdefault(superstep, {})[path] = update
        graph_input = await artifacts.fetch(db, session_id, started["input"])
    return History(
        started["workflow"],
        started["version"],
        graph_input,
        tuple(results[number] for number in sorted(results)),
    )


async def read_answers(services: Services, session_id: SessionId, step: int) -> list[Any]:
    """All answers that a step got, in order."""
    answers = []
    async with transaction(services.engine) as db:
        state = await read.stream_state(db, session_id)
        after, only = 0, read.Filter(t=frozenset({"approval_event"}))
        while page := await read.read_page(db, state, after=after, limit=1000, only=only):
            after = page[-1].offset
            for event in map(read.parse, page):
                if event["step"] == step and event["status"] in {"approved", "rejected"}:
                    answers.append(await artifacts.fetch(db, session_id, event["answer"]))
    return answers


async def read_session(services: Services, session_id: SessionId) -> SessionRow:
    async with transaction(services.engine) as db:
        return await repository.session_row(db, session_id)


async def read_step(services: Services, session_id: SessionId, step: int) -> StepRow:
    """Raises NotFound."""
    async with transaction(services.engine) as db:
        return await step_repository.step_row(db, session_id, step)


async def replace_snapshot(services: Services, session: SessionRow, snapshot: bytes) -> bool:
    """Puts a rebuilt snapshot in the place of the one that was read; False when the session moved on."""
    async with unit(services, session.session_id) as work:
        current = await repository.session_row(work.db, session.session_id)
        if current.snapshot_version != session.snapshot_version:
            return False
        await repository.update_session(work.db, session.session_id, snapshot=snapshot)
        return True


def max_supersteps_reached(session: SessionRow) -> bool:
    return (session.folded_superstep or 0) >= settings().max_supersteps
