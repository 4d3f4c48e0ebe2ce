"""The moves of a session, each in one call: what is written, what is told, and what a second call changes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest

from app.database import transaction
from app.errors import LeaseLost
from app.events import read
from app.events.encoding import Recorded, encode
from app.progress import SessionId
from app.sessions import attempts, history, step_repository, supersteps
from app.sessions.attempts import Claim
from app.sessions.model import Advance, NewStep
from app.sessions.supersteps import Owed
from app.unit_of_work import Backends
from tests.answering import answer
from tests.populating import SERVED, advance, created
from tests.serving import serving

ODD_AGENT = 'fix "ü"\t\\ \x1f 🔧'


@pytest.fixture
async def backends(database_url: str, redis_url: str) -> AsyncIterator[Backends]:
    async with serving(database_url, redis_url) as served:
        yield served.gateway.backends


def new_step(agent: str) -> NewStep:
    return NewStep(f"node:{agent}", agent, "default", None, 3, timedelta(hours=1))


async def queued(backends: Backends, *agents: str) -> SessionId:
    session_id = await created(backends)
    await advance(backends, session_id, steps=[new_step(agent) for agent in agents])
    return session_id


async def claim(
    backends: Backends, session_id: SessionId, step: int = 1, *, lease: UUID | None = None, agent: str | None = None
) -> Claim | None:
    agent = agent or (await attempts.read_step(backends, session_id, step))[1].agent
    return await attempts.claim_step(
        backends,
        session_id,
        step,
        1,
        agent=agent,
        lease=lease or uuid4(),
        worker="worker-1",
        served=SERVED,
        alone=False,
    )


async def claimed(backends: Backends, session_id: SessionId, step: int = 1) -> Claim:
    found = await claim(backends, session_id, step)
    assert found is not None
    return found


async def complete(backends: Backends, claim: Claim) -> Owed | None:
    return await attempts.complete_step(backends, claim, {"by": claim.step.agent}, commit=None)


async def ask(backends: Backends, claim: Claim) -> None:
    await attempts.wait_step(backends, claim, question="may I?", interrupt_id="asked", node_snapshot=b"state")


async def events(backends: Backends, session_id: SessionId) -> list[Recorded]:
    async with transaction(backends.engine) as db:
        return await read.read_page(db, await read.stream_state(db, session_id), after=0, limit=1000)


async def told(backends: Backends, session_id: SessionId) -> list[tuple[str, str]]:
    """(kind, status or node) of all events."""
    parsed = [orjson.loads(event.data) for event in await events(backends, session_id)]
    return [(event["t"].removesuffix("_event"), event.get("status") or event["node"]) for event in parsed]


async def test_the_claims_event_is_written_as_our_encoder_writes_it(backends: Backends) -> None:
    session_id = await queued(backends, ODD_AGENT)
    await claimed(backends, session_id)
    stored = (await events(backends, session_id))[-1]
    event = orjson.loads(stored.data)
    assert (event["agent"], stored.agent, stored.phase) == (ODD_AGENT, ODD_AGENT, None)
    assert stored.data == encode(event, max_bytes=10_000)


class Collecting:
    """Stands where Redis does: keeps what is told."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def publish(self, events: Sequence[Recorded]) -> None:
        self.events += events

    def of(self, session_id: SessionId) -> list[Recorded]:
        return [event for event in self.events if event.stream_id == session_id]

    def cancel(self, session_id: SessionId) -> None:
        raise AssertionError("nothing is cancelled here")

    def ring_keys(self) -> None:
        raise AssertionError("no key is made here")


async def test_what_is_told_live_is_what_stands_in_the_log(backends: Backends) -> None:
    push = Collecting()
    backends = replace(backends, push=push)
    session_id = await queued(backends, "plan", "fix")
    await ask(backends, await claimed(backends, session_id, 1))
    await complete(backends, await claimed(backends, session_id, 2))
    await answer(backends, session_id, 1)
    await complete(backends, await claimed(backends, session_id, 1))
    assert push.of(session_id) == await events(backends, session_id)
    assert {"session_event", "step_event", "approval_event"} == {event.t for event in push.of(session_id)}


async def test_a_claim_is_repeated_with_its_lease_and_refused_to_others(backends: Backends) -> None:
    session_id, lease = await queued(backends, "plan"), uuid4()
    assert await claim(backends, session_id, agent="another") is None
    first = await claim(backends, session_id, lease=lease)
    written = await told(backends, session_id)
    assert await claim(backends, session_id, lease=lease) == first
    assert await claim(backends, session_id) is None
    assert await claim(backends, session_id, step=2, agent="plan") is None
    assert await claim(backends, SessionId(uuid4()), agent="plan") is None
    assert await told(backends, session_id) == written


async def test_the_last_of_a_superstep_is_told_what_is_owed(backends: Backends) -> None:
    session_id = await queued(backends, "plan", "fix")
    first, second = await claimed(backends, session_id, 1), await claimed(backends, session_id, 2)
    assert await complete(backends, second) is None
    owed = await complete(backends, first)
    assert owed == await supersteps.read_owed(backends, session_id)
    assert owed is not None
    assert [(step.step, step.update_data) for step in owed.steps] == [(1, {"by": "plan"}), (2, {"by": "fix"})]


async def test_a_completed_step_is_not_completed_again(backends: Backends) -> None:
    session_id = await queued(backends, "plan")
    running = await claimed(backends, session_id)
    await complete(backends, running)
    written = await told(backends, session_id)
    with pytest.raises(LeaseLost):
        await complete(backends, running)
    assert await told(backends, session_id) == written


async def test_a_session_waits_when_nothing_else_runs_and_goes_on_with_the_next_claim(backends: Backends) -> None:
    backends = replace(backends, push=(push := Collecting()))
    session_id = await queued(backends, "plan", "fix", "test")
    for step, end in ((1, ask), (2, complete)):
        await end(backends, await claimed(backends, session_id, step))
        assert ("session", "waiting") not in await told(backends, session_id)
    await complete(backends, await claimed(backends, session_id, 3))
    assert (await told(backends, session_id))[-2:] == [("step", "succeeded"), ("session", "waiting")]
    async with transaction(backends.engine) as db:
        asked = await step_repository.step_row(db, session_id, 1)
        await step_repository.requeue(db, asked, attempt=1, failures=0, lost=0, delay=timedelta(0))
    await claimed(backends, session_id, 1)
    assert (await told(backends, session_id))[-2:] == [("session", "running"), ("step", "running")]
    state = await history.read_session(backends, session_id)
    assert (state.status, state.reason) == ("running", None)
    assert push.of(session_id) == await events(backends, session_id)


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_fold_is_committed_once_whether_in_one_call_or_with_artifacts(backends: Backends, size: int) -> None:
    session_id = await queued(backends, "plan")
    owed = await complete(backends, await claimed(backends, session_id))
    assert owed is not None
    found = Advance(b"next", [("plan", {"text": "x" * size})], [new_step("fix")], "c0ffee", finished=False)
    assert await supersteps.commit_advance(backends, owed, found)
    written = await told(backends, session_id)
    assert written[-2:] == [("workflow", "plan"), ("step", "queued")]
    assert not await supersteps.commit_advance(backends, owed, found)
    assert await told(backends, session_id) == written
    state = await history.read_session(backends, session_id)
    assert (state.snapshot, state.snapshot_version, state.folded_superstep) == (b"next", 2, 1)
    assert (state.last_step, state.base_commit, state.next_superstep) == (2, "c0ffee", 2)


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(seconds=7)])
async def test_the_wait_of_a_policy_holds_also_where_it_is_none(backends: Backends, delay: timedelta) -> None:
    session_id = await queued(backends, "a")
    failed = await claimed(backends, session_id)
    assert await attempts.fail_step(backends, failed, "not yet", retryable=True, delay=delay) == delay
