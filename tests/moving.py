"""Every move of a session and of a step as a worker, a rescuer, the gateway or a client makes it, and what it changed.

A move is made as its caller would make it who read the session (or held the step) before and comes too late, so that
what refuses it is the check under the stream's lock.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import text

from app.database import transaction
from app.events import read
from app.events.cursors import Cursor
from app.events.types import SessionStatus, StepStatus
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import approvals, attempts, control, history, repository, supersteps
from app.sessions.attempts import Claim
from app.sessions.model import Advance, NewStep
from app.sessions.supersteps import Owed
from app.sessions.transitions import SessionMove, StepMove
from app.unit_of_work import Backends, unit_of_work
from tests.answering import open_question
from tests.populating import SERVED, advance, created

STEP = 1
"""The step that moves; whatever else is in its session is there so that it can."""


@dataclass(frozen=True, slots=True)
class Case:
    """A session, and the claim by which a worker had the step; its lease may be gone since."""

    backends: Backends
    session_id: SessionId
    held: Claim | None = None

    @property
    def claim(self) -> Claim:
        assert self.held is not None
        return self.held


@dataclass(frozen=True, slots=True)
class Facts:
    """All that Postgres holds of a session, in columns and in the log."""

    session: dict[str, Any]
    stream: dict[str, Any]
    steps: dict[int, dict[str, Any]]
    events: list[dict[str, Any]]

    def since(self, before: "Facts") -> list[dict[str, Any]]:
        return self.events[len(before.events) :]


async def look(case: Case) -> Facts:
    async with transaction(case.backends.engine) as db:

        async def rows(table: str, key: str = "session_id") -> list[dict[str, Any]]:
            found = await db.execute(text(f"SELECT * FROM {table} WHERE {key} = :id"), {"id": case.session_id})
            return [dict(row) for row in found.mappings()]

        (session,), (stream,) = await rows("sessions"), await rows("streams", "stream_id")
        steps = {row["step"]: row for row in await rows("steps")}
        page = await read.read_page(db, await read.stream_state(db, case.session_id), after=0, limit=1000)
    return Facts(session, stream, steps, [orjson.loads(event.data) for event in page])


def new_step(agent: str) -> NewStep:
    return NewStep(agent, agent, "default", None, 3, timedelta(hours=1))


async def owed(case: Case) -> Owed:
    """What a fold goes on from, whether it may or not."""
    return Owed(await history.read_session(case.backends, case.session_id), ())


async def fold(case: Case) -> object:
    found = Advance(b"next", [], [new_step("next")], None, finished=False)
    return await supersteps.commit_advance(case.backends, await owed(case), found)


async def finish(case: Case) -> object:
    found = Advance(b"last", [], [], None, finished=True, result={"summary": "done"})
    return await supersteps.commit_advance(case.backends, await owed(case), found)


async def fail_at_fold(case: Case) -> None:
    await supersteps.fail_session(case.backends, await owed(case), "the router raised")


async def park(case: Case, *, version: str = "2") -> object:
    session = await history.read_session(case.backends, case.session_id)
    return await supersteps.park_session(case.backends, replace(session, workflow_version=version))


async def cancel(case: Case) -> object:
    return await control.cancel_session(case.backends, case.session_id, principal=OWNER)


async def retry(case: Case) -> object:
    return await control.retry_session(case.backends, case.session_id, principal=OWNER)


async def claim(case: Case, step: int = STEP) -> Claim | None:
    row = (await attempts.read_step(case.backends, case.session_id, step))[1]
    return await attempts.claim_step(
        *(case.backends, case.session_id, step, row.attempt),
        agent=row.agent,
        lease=uuid4(),
        worker="worker-1",
        served=SERVED,
        alone=row.lost > 0,
    )


async def claimed(case: Case, step: int = STEP) -> Claim:
    found = await claim(case, step)
    assert found is not None
    return found


async def complete(case: Case) -> None:
    await attempts.complete_step(case.backends, case.claim, {"plan": []}, commit=None)


async def ask(case: Case) -> None:
    await attempts.wait_step(case.backends, case.claim, question="may I?", interrupt_id="asked", node_snapshot=b"state")


async def answer(case: Case) -> object:
    question = await open_question(case.backends, case.session_id, STEP) or Cursor(1, 1)
    return await approvals.answer_approval(case.backends, case.session_id, STEP, question=question, principal=OWNER)


async def repeat(case: Case) -> object:
    return await attempts.fail_step(case.backends, case.claim, "no such tool", retryable=True)


async def postpone(case: Case) -> None:
    await attempts.postpone_step(case.backends, case.claim, "too many requests", timedelta(hours=1))


async def fail(case: Case) -> object:
    return await attempts.fail_step(case.backends, case.claim, "no such tool", retryable=False)


async def give_back(case: Case) -> None:
    await attempts.give_back_step(case.backends, case.claim)


async def lose(case: Case) -> None:
    row = (await attempts.read_step(case.backends, case.session_id, STEP))[1]
    await attempts.lose_step(case.backends, row, dead="it was killed")


async def lose_by_claim(case: Case) -> None:
    await attempts.lose_step(case.backends, case.claim.step, dead="it was killed")


async def expire(case: Case) -> None:
    async with transaction(case.backends.engine) as db:
        expired = "UPDATE steps SET lease_until = 'epoch' WHERE session_id = :id AND status = 'running'"
        await db.execute(text(expired), {"id": case.session_id})
    row = (await attempts.read_step(case.backends, case.session_id, STEP))[1]
    await attempts.lose_step(case.backends, row)


async def lose_too_often(case: Case) -> None:
    settings = case.backends.settings.model_copy(update={"max_lost": 1})
    await lose(replace(case, backends=replace(case.backends, settings=settings)))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make a move of a session. `step` is what there has to be for it; None: the superstep is complete."""

    move: SessionMove
    make: Callable[[Case], Awaitable[object]]
    step: StepStatus | None = None


SESSION_WAYS = {
    "fold": Way("fold", fold),
    "claim": Way("claim", claim, step="queued"),
    "ask": Way("ask", ask, step="running"),
    "park": Way("park", park),
    "answer": Way("answer", answer, step="waiting"),
    "finish": Way("finish", finish),
    "fail at a fold": Way("fail", fail_at_fold),
    "fail with a step": Way("fail", fail, step="running"),
    "cancel": Way("cancel", cancel),
    "retry": Way("retry", retry),
}

STEP_WAYS: dict[str, tuple[StepMove, Callable[[Case], Awaitable[object]]]] = {
    "claim": ("claim", claim),
    "complete": ("complete", complete),
    "ask": ("ask", ask),
    "answer": ("answer", answer),
    "repeat": ("repeat", repeat),
    "postpone": ("repeat", postpone),
    "lose": ("lose", lose),
    "lose, as it was claimed": ("lose", lose_by_claim),
    "lose by its lease": ("lose", expire),
    "give back": ("lose", give_back),
    "fail": ("fail", fail),
    "lose too often": ("fail", lose_too_often),
    "cancel": ("cancel", cancel),
    "retry": ("retry", retry),
}


async def put_into(case: Case, status: SessionStatus) -> None:
    """Where no move leads. The log says it, so the stream does."""
    async with unit_of_work(case.backends, case.session_id) as work:
        await work.append(case.session_id, {"t": "session_event", "status": status})
        await repository.set_status(work.db, case.session_id, status, None)


async def with_step(backends: Backends, status: StepStatus) -> Case:
    """A session that runs, or has failed with (or beside) its step in this status. A worker had the step before."""
    session_id = await created(backends)
    beside = [] if status == "running" else [new_step("beside")]  # it keeps the session from waiting with the step
    await advance(backends, session_id, steps=[new_step("plan"), *beside])
    case = Case(backends, session_id)
    case = replace(case, held=await claimed(case))
    match status:
        case "queued":
            await give_back(case)
        case "waiting":
            await ask(case)
        case "succeeded":
            await complete(case)
        case "failed":
            await fail(case)
        case "cancelled":
            await fail(replace(case, held=await claimed(case, STEP + 1)))
    return case


async def in_status(backends: Backends, status: SessionStatus, step: StepStatus | None) -> Case:
    """A session in this status, and in it the step; without one, its superstep is complete, or it has not begun."""
    if step is not None:
        case = await with_step(backends, step)
    else:
        case = Case(backends, await created(backends))
        if status != "created":
            await advance(backends, case.session_id, steps=[new_step("plan")])
            await complete(replace(case, held=await claimed(case)))
    match status:
        case "created" if step is not None:
            await put_into(case, status)
        case "paused":
            await put_into(case, status)
        case "waiting":
            await park(case, version="1.5")
        case "succeeded":
            await finish(case)
        case "failed":
            await fail_at_fold(case)
        case "cancelled":
            await cancel(case)
    return case
