"""Every move in every status, in Postgres: it does what transitions.py says, or it is refused and changes nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest
from sqlalchemy import text

from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from app.errors import StellwerkError
from app.events.types import TERMINAL, SessionStatus, StepStatus
from app.sessions import attempts, overdue, supersteps
from app.sessions.admission import admit_sessions
from app.sessions.transitions import SESSION, STEP, SessionMove, StepMove, may
from app.unit_of_work import Backends
from tests import moving
from tests.conftest import execute, url_of
from tests.moving import SESSION_WAYS, STEP_WAYS, Case, Facts, in_status, look, put_into, with_step
from tests.populating import SERVED
from tests.serving import serving

STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)
STEP_STATUSES: tuple[StepStatus, ...] = tuple(status for status in get_args(StepStatus) if status != "lost")
"""`lost` is what an event says of an attempt; its step is queued again, or has failed."""


@pytest.fixture(scope="module")
async def backends(
    postgres: EmbeddedPostgres, migrated_template: str, valkey: EmbeddedValkey
) -> AsyncIterator[Backends]:
    """One gateway for all: each case has a session of its own."""
    execute(postgres.superuser_url, f"CREATE DATABASE transitions TEMPLATE {migrated_template}")
    async with serving(url_of(postgres, "transitions"), valkey.url) as served:
        yield served.gateway.backends
    execute(postgres.superuser_url, "DROP DATABASE transitions WITH (FORCE)")


def session_told(move: SessionMove, status: SessionStatus) -> list[str]:
    """What the session's own events say of a move that was made in `status`."""
    match move:
        case "fold":
            return [] if status == "running" else ["running"]
        case "claim" | "answer":
            return ["running"] if status == "waiting" else []
        case "ask" | "park":
            return ["waiting"]
        case "finish":
            return [*session_told("fold", status), "succeeded"]
        case "fail":
            return ["failed"]
        case "cancel":
            return [] if status == "cancelled" else ["cancelled"]
        case "retry":
            return ["running"]


def step_told(way: str, move: StepMove) -> list[tuple[str, str]]:
    """What the step's events say of a move that was made."""
    match move:
        case "claim":
            return [("step_event", "running")]
        case "complete":
            return [("step_event", "succeeded")]
        case "ask":
            return [("step_event", "waiting"), ("approval_event", "requested")]
        case "answer":
            return [("approval_event", "approved"), ("step_event", "queued")]
        case "repeat":
            return [("step_event", "failed"), ("step_event", "queued")]
        case "lose":
            return [("step_event", "lost"), ("step_event", "queued")]
        case "fail":
            return [("step_event", "lost" if way == "lose too often" else "failed")]
        case "cancel":
            return [("step_event", "cancelled")]
        case "retry":
            return [("step_event", "queued")]


async def moved(case: Case, way: str, *, step: bool = False) -> tuple[Facts, Facts, bool]:
    """What there was before the move and what there is after it, and whether it was refused aloud."""
    make = STEP_WAYS[way][1] if step else SESSION_WAYS[way].make
    before = await look(case)
    try:
        await make(case)
    except StellwerkError:
        return before, await look(case), True
    return before, await look(case), False


def said(events: list[dict[str, object]]) -> list[object]:
    """What a session's own events say."""
    return [event["status"] for event in events if event["t"] == "session_event"]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("way", SESSION_WAYS)
async def test_a_session_moves_as_the_table_says_or_not_at_all(
    backends: Backends, way: str, status: SessionStatus
) -> None:
    move = SESSION_WAYS[way].move
    before, after, raised = await moved(await in_status(backends, status, SESSION_WAYS[way].step), way)
    assert (before.session["status"], before.stream["status"]) == (status, status)
    if may(move, status):
        assert not raised
        assert after != before or (move, status) == ("cancel", "cancelled")
        expected = SESSION[move][status]
        ended = expected in TERMINAL
        assert (after.session["status"], after.stream["status"]) == (expected, expected)
        assert (after.stream["closed"], after.session["ended_at"] is not None) == (ended, ended)
        assert said(after.since(before)) == session_told(move, status)
        assert not ended or (after.events[-1]["t"], after.events[-1]["status"]) == ("session_event", expected)
    elif move == "ask" and status not in TERMINAL:  # the step asks all the same
        assert after.session == before.session
        assert (after.stream["status"], after.stream["closed"]) == (status, False)
        assert said(after.since(before)) == []
    else:
        assert after == before


@pytest.mark.parametrize("status", STEP_STATUSES)
@pytest.mark.parametrize("way", STEP_WAYS)
async def test_a_step_moves_as_the_table_says_or_not_at_all(backends: Backends, way: str, status: StepStatus) -> None:
    move = STEP_WAYS[way][0]
    before, after, raised = await moved(await with_step(backends, status), way, step=True)
    assert before.steps[moving.STEP]["status"] == status
    told = [(event["t"], event["status"]) for event in after.since(before) if event.get("step") == moving.STEP]
    if status in STEP[move]:
        assert not raised
        assert after.steps[moving.STEP]["status"] == STEP[move][status]
        assert told == step_told(way, move)
        assert (after.session["status"] == "failed") == (move == "fail")
    elif move == "cancel" and not raised:  # the session ends, and a step that has ended stays as it is
        assert after.steps[moving.STEP] == before.steps[moving.STEP]
        assert told == []
    else:
        assert after == before


@pytest.mark.parametrize("way", ["complete", "ask", "answer", "repeat", "postpone", "lose", "give back"])
async def test_a_paused_session_stays_paused_whatever_its_steps_do(backends: Backends, way: str) -> None:
    move = STEP_WAYS[way][0]
    (status,) = STEP[move]
    case = await with_step(backends, status)
    await put_into(case, "paused")
    before, after, raised = await moved(case, way, step=True)
    assert not raised
    assert after.session == before.session
    assert after.stream["status"] == "paused"
    assert after.steps[moving.STEP]["status"] == STEP[move][status]
    assert await moving.claim(case) is None
    assert await look(case) == after


@pytest.mark.parametrize("status", STATUSES)
async def test_only_a_session_that_may_be_folded_is_owed_a_fold(backends: Backends, status: SessionStatus) -> None:
    case = await in_status(backends, status, None)
    assert (await supersteps.read_owed(backends, case.session_id) is not None) == may("fold", status)


@pytest.mark.parametrize("status", ["running", "waiting", "paused"])
async def test_the_last_to_complete_is_told_of_a_fold_only_where_there_may_be_one(
    backends: Backends, status: SessionStatus
) -> None:
    case = await in_status(backends, status, "running")
    owed = await attempts.complete_step(backends, case.claim, {"plan": []}, commit=None)
    assert (owed is not None) == may("fold", status)


@pytest.mark.parametrize("status", ["running", "waiting", "paused"])
async def test_only_for_a_session_that_may_go_on_the_bells_are_rung_again(
    backends: Backends, status: SessionStatus
) -> None:
    queued, complete = await in_status(backends, status, "queued"), await in_status(backends, status, None)
    at_once, limit = timedelta(0), 100_000
    async with transaction(backends.engine) as db:
        unclaimed = await overdue.take_unclaimed(db, served=SERVED, ring_again_after=at_once, limit=limit)
        owed = await overdue.take_unadvanced(db, served=SERVED, ring_again_after=at_once, limit=limit)
    assert (queued.session_id in {due.session_id for due in unclaimed}) == may("claim", status)
    assert (complete.session_id in owed) == may("fold", status)


@pytest.mark.parametrize("status", ["created", "waiting", "paused"])
async def test_only_a_session_that_may_be_folded_gets_its_turn(backends: Backends, status: SessionStatus) -> None:
    case = await in_status(backends, status, None)
    async with transaction(backends.engine) as db:
        again = "UPDATE sessions SET admitted_at = NULL WHERE session_id = :id"
        await db.execute(text(again), {"id": case.session_id})
    roomy = backends.settings.model_copy(update={"max_active_sessions": 100_000})
    await admit_sessions(replace(backends, settings=roomy))
    assert ((await look(case)).session["admitted_at"] is not None) == may("fold", status)


async def test_a_session_that_nobody_serves_says_so_once(backends: Backends) -> None:
    case = await in_status(backends, "running", "queued")
    await moving.park(case)
    parked = await look(case)
    await moving.park(case)
    assert await look(case) == parked


async def test_what_succeeded_stands_when_its_failed_session_is_retried(backends: Backends) -> None:
    case = await with_step(backends, "succeeded")
    await moving.fail(replace(case, held=await moving.claimed(case, moving.STEP + 1)))
    failed = await look(case)
    await moving.retry(case)
    retried = await look(case)
    assert retried.steps[moving.STEP] == failed.steps[moving.STEP]
    assert retried.steps[moving.STEP + 1]["status"] == "queued"
