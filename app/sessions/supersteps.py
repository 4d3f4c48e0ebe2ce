"""What workers do with a session between its steps: read what is to be folded, and commit the fold.

The fold itself runs between the two, without lock and transaction, on the snapshot of one version; the commit
takes the stream's lock and checks that the version is still the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.database import transaction
from app.events import artifacts
from app.events.encoding import Recorded
from app.events.types import StepEvent
from app.progress import SessionId
from app.sessions import facts, history, repository, step_repository, transitions, worker_repository
from app.sessions.ending import end_session
from app.sessions.model import Advance, SessionRow, StepRow
from app.unit_of_work import MAX_EVENTS, Backends, unit_of_work


@dataclass(frozen=True, slots=True)
class Owed:
    """A session whose open superstep is complete: its row, and the steps to fold (none at the beginning)."""

    session: SessionRow
    steps: tuple[StepRow, ...]
    start_state: Any = None
    """At the beginning of a session that continues another: that one's final state, as the codec wrote it."""


async def read_owed(backends: Backends, session_id: SessionId) -> Owed | None:
    """None when there is nothing to fold (yet, or any more). Raises NotFound."""
    async with transaction(backends.engine) as db:
        session = await repository.session_row(db, session_id)
        if not transitions.may("fold", session.status):
            return None
        if session.folded_superstep is None:
            start = await history.read_start_state(db, session_id) if session.continues else None
            return Owed(session, (), start)
        steps = await step_repository.steps_of_superstep(db, session_id, session.next_superstep)
    if not steps or any(step.status != "succeeded" for step in steps):
        return None
    return Owed(session, tuple(steps))


async def commit_advance(backends: Backends, owed: Owed, advance: Advance) -> bool:
    """False when another worker was quicker, or the session has ended or is paused: then nothing was written."""
    session = owed.session
    session_id, superstep = session.session_id, session.next_superstep + 1
    numbered = enumerate(advance.steps, session.last_step + 1)
    queued = [facts.step_first_queued(number, step, superstep=superstep) for number, step in numbered]
    if advance.finished or not _fits_one_call(backends, advance):
        recorded = await _commit_in_parts(backends, session, advance, queued)
    else:
        goes_on = backends.item(session_id, facts.session_running())
        deltas = [backends.item(session_id, facts.folded(node, delta)) for node, delta in advance.deltas]
        items = deltas + [backends.item(session_id, event) for event in queued]
        recorded = await repository.commit_fold(backends.pool, session, advance, goes_on=goes_on, events=items)
    if recorded is None:
        return False
    for step in queued:  # before readers are told: a worker waits for it
        backends.dispatch.run_step(session_id, step["step"], 1, queue=step["queue"], agent=step["agent"])
    backends.push.publish(recorded)
    return True


def _fits_one_call(backends: Backends, advance: Advance) -> bool:
    """Its events are neither too many nor too large."""
    return len(advance.deltas) + len(advance.steps) <= MAX_EVENTS and all(
        artifacts.fits(delta, max_bytes=backends.value_bytes()) for _, delta in advance.deltas
    )


async def _commit_in_parts(
    backends: Backends, session: SessionRow, advance: Advance, queued: Sequence[StepEvent]
) -> list[Recorded] | None:
    """Tells readers itself, and leaves nothing to tell."""
    session_id = session.session_id
    async with unit_of_work(backends) as work:  # the stream's lock is taken by its first statement
        goes_on = work.item(session_id, facts.session_running())
        recorded = await repository.commit_fold(work.db, session, advance, goes_on=goes_on, events=[])
        if recorded is None:
            return None
        work.recorded += recorded
        deltas = [
            facts.folded(node, await work.outsource(session_id, delta, "exact")) for node, delta in advance.deltas
        ]
        await work.append(session_id, *deltas, *queued)
        if advance.finished:
            result = dict(advance.result)
            if patch := advance.patch:
                kept = await backends.secrecy.kept_bytes(patch)
                result["patch_digest"] = await artifacts.put_artifact(
                    work.db, session_id, kept, media_type="text/x-diff"
                )
                if kept != patch:
                    result["patch_is_redacted"] = True  # the branch is not
            await end_session(work, session_id, "finish", result=result, final_state=advance.state)
    return []


async def fail_session(backends: Backends, owed: Owed, reason: str) -> None:
    """Ends a session that cannot be folded; nothing happens if it moved on meanwhile."""
    session_id = owed.session.session_id
    async with unit_of_work(backends, session_id) as work:
        session = await repository.session_row(work.db, session_id)
        has_moved = session.snapshot_version != owed.session.snapshot_version
        if not has_moved and transitions.may("fail", session.status):
            await end_session(work, session_id, "fail", reason=reason)


async def park_session(backends: Backends, session: SessionRow) -> bool:
    """Makes a session wait, and say so, whose version no worker has; False when one has it."""
    name, version = session.workflow, session.workflow_version
    async with unit_of_work(backends, session.session_id) as work:
        if await worker_repository.is_served(work.db, name, version):
            return False
        current = await repository.session_row(work.db, session.session_id)
        reason = f"no worker serves version {version} of the workflow {name!r}; the session goes on when one does"
        if not transitions.may("park", current.status):
            return True
        status = transitions.after("park", current.status)
        if (current.status, current.reason) != (status, reason):
            await work.append(session.session_id, facts.session_waiting(reason))
            await repository.set_status(work.db, session.session_id, status, reason)
        if current.snapshot_version == 0:  # it has not begun: its turn comes again, with the worker
            await repository.give_up_turn(work.db, session.session_id)
        return True
