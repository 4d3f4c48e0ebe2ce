"""Sessions on real workers: the right end in good times, and what the log tells of bad ones."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from app.config import MIB, Settings
from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sentinel import Sentinel
from app.embedded.valkey import EmbeddedValkey
from app.errors import Conflict, LeaseLost
from app.events import append, encoding
from app.events.proof.entries import verify_stream
from app.principals.model import OWNER
from app.progress import Report, SessionId
from app.schema import migrate
from app.sessions import approvals, control, history, reports, service
from app.sessions.dispatch import ADVANCE_QUEUE, ADVANCE_SESSION, RUN_STEP, Dispatch
from app.sessions.model import NewSession, StepToken
from tests.answering import answer
from tests.cluster import OF_TOMORROW, Cluster, cluster_on, processes_naming
from tests.graphs import everything
from tests.graphs.driving import plain
from tests.roles import tampering
from workers.graph import fold
from workers.graph.codec import readable
from workers.graph.loading import load_workflows
from workers.steps.failures import patiently

STEPS = "tests.graphs.steps"


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        yield running


def statuses(events: list[dict[str, Any]], step: int) -> list[tuple[str, int]]:
    return [(e["status"], e["attempt"]) for e in events if e["t"] == "step_event" and e["step"] == step]


async def test_an_unchanged_graph_ends_in_the_same_state_as_plain_langgraph(cluster: Cluster) -> None:
    module = "tests.graphs.everything"
    cluster.start_worker(module)
    session_id = await cluster.create("everything", goal="the goal")
    answers = {name: list(given) for name, given in everything.ANSWERS.items()}
    while any(answers.values()):
        view = await cluster.until(session_id, lambda view: view.status == "waiting")
        (asked,) = await approvals.list_approvals(cluster.backends, session_id=session_id, principal=OWNER)
        given = answers[asked.agent].pop(0)
        await answer(cluster.backends, session_id, asked.step, answer=given)
    view = await cluster.ended(session_id)
    assert view.status == "succeeded"

    workflow = load_workflows([module]).served["everything"]
    expected = await plain(workflow, {"goal": "the goal"}, everything.ANSWERS)
    assert view.result == readable(expected.output)
    session = await service_row(cluster, session_id)
    assert fold.read(workflow, session.snapshot).output == expected.output

    events = await cluster.events(session_id)
    asked_and_answered = [e["status"] for e in events if e["t"] == "approval_event"]
    assert asked_and_answered == ["requested", "approved"] * 3
    assert sum(e["t"] == "workflow_event" and e["node"] == "square" for e in events) == everything.FAN_OUT
    assert any(e["t"] == "agent_event" and e["details"] == {"planning": "the goal"} for e in events)


async def service_row(cluster: Cluster, session_id: Any) -> Any:

    return await history.read_session(cluster.backends, session_id)


async def test_another_worker_takes_over_what_a_killed_one_ran(cluster: Cluster, tmp_path: Path) -> None:
    workers = [cluster.start_worker(STEPS), cluster.start_worker(STEPS)]
    session_id = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
    started = next(e for e in await cluster.events(session_id) if e.get("msg") == "started")
    victim = next(worker for worker in workers if worker.pid == started["details"]["pid"])
    victim.kill()
    view = await cluster.until(session_id, lambda view: view.steps[-1].attempt == 2)
    (tmp_path / "go").touch()
    view = await cluster.ended(session_id)
    assert (view.status, view.result["done"]) == ("succeeded", ["quick", "patient"])
    events = await cluster.events(session_id)
    assert statuses(events, 2) == [
        ("queued", 1), ("running", 1), ("lost", 1), ("queued", 2), ("running", 2), ("succeeded", 2),
    ]  # fmt: skip
    assert [e["attempt"] for e in events if e.get("msg") == "started"] == [1, 2]
    assert not processes_naming(f"# {tmp_path}")


async def test_a_step_that_kills_its_worker_fails_its_session_and_leaves_the_worker(cluster: Cluster) -> None:
    worker = cluster.start_worker(STEPS, STELLWERK_MAX_LOST="2", STELLWERK_LEASE="2")
    other = cluster.start_worker(STEPS, STELLWERK_MAX_LOST="2", STELLWERK_LEASE="2")
    session_id = await cluster.create("deadly")
    view = await cluster.ended(session_id)
    assert view.status == "failed" and "2 attempts were lost" in (view.reason or "")
    assert [s for s, _ in statuses(await cluster.events(session_id), 1)].count("lost") == 2
    # the first attempt killed one of the two; the second ran alone, in a process that does not register
    assert sorted(await workers_told(cluster)) == sorted([worker.pid, other.pid])
    assert [worker.poll() is None, other.poll() is None].count(True) == 1


async def test_a_process_that_is_frozen_ends_when_its_attempt_is_lost_or_cancelled(
    cluster: Cluster, tmp_path: Path
) -> None:
    for _ in range(2):
        cluster.start_worker(STEPS, STELLWERK_LEASE="3")
    session_id = await cluster.create("freezing", directory=str(tmp_path))

    async def frozen(attempt: int) -> psutil.Process:
        said = tmp_path / f"frozen-{attempt}"
        await cluster.until(session_id, lambda _: said.exists() and said.read_text())
        return psutil.Process(int(said.read_text()))

    first, second = await frozen(2), await frozen(3)
    assert first.pid != second.pid
    # Its lease was not renewed, and the attempt after it runs already: it has gone, or goes in a moment.
    assert await ended(first)
    assert second.is_running()
    await control.cancel_session(cluster.backends, session_id, principal=OWNER)
    assert await ended(second)
    assert (await cluster.ended(session_id)).status == "cancelled"


async def ended(process: psutil.Process) -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, [process], timeout=30)
    return not alive


async def test_a_step_that_fills_memory_fails_its_session_and_its_neighbours_lose_one_attempt(
    cluster: Cluster, tmp_path: Path
) -> None:
    limit = {"STELLWERK_WORKER_MEMORY_BYTES": str(640 * MIB)}
    workers = [cluster.start_worker(STEPS, **limit) for _ in range(2)]
    neighbours = [await cluster.create("patient", directory=str(tmp_path)) for _ in range(4)]
    for session_id in neighbours:
        await cluster.until(session_id, lambda view: len(view.steps) == 2 and view.steps[1].status == "running")
    greedy = await cluster.create("greedy")
    view = await cluster.ended(greedy)
    assert view.status == "failed" and "alone in its process, used more than 640 MiB" in (view.reason or "")
    assert [s for s, _ in statuses(await cluster.events(greedy), 1)] == [
        "queued", "running", "lost", "queued", "running", "failed",
    ]  # fmt: skip
    (tmp_path / "go").touch()
    for session_id in neighbours:
        view = await cluster.ended(session_id)
        assert view.status == "succeeded" and view.steps[1].lost <= 1
    assert [worker.poll() is None for worker in workers].count(True) == 1


async def test_redis_away_and_back_empty_costs_time_only(
    database_url: str, own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with cluster_on(database_url, own_valkey.url, tmp_path) as cluster:
        cluster.start_worker(STEPS)
        session_id = await cluster.create("patient", directory=str(tmp_path))
        await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
        own_valkey.stop()
        (tmp_path / "go").touch()
        meanwhile = await cluster.create("quick")  # its message is lost
        view = await cluster.ended(session_id)
        assert view.status == "succeeded"  # the last step needed no message
        own_valkey.start()
        from redis import Redis

        with Redis.from_url(own_valkey.url) as client:
            client.flushall()
        assert (await cluster.ended(meanwhile)).status == "succeeded"


async def test_a_renamed_node_makes_open_sessions_wait_and_the_old_version_takes_them_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    old = cluster.start_worker(STEPS)
    session_id = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
    old.kill()
    await forget_versions(cluster)
    cluster.start_worker("tests.graphs.renamed")
    view = await cluster.until(session_id, lambda view: view.status == "waiting")
    assert "no worker serves version" in (view.reason or "")
    cluster.checked_modules.discard("tests.graphs.renamed")
    (tmp_path / "go").touch()
    cluster.start_worker(STEPS)
    assert (await cluster.ended(session_id)).status == "succeeded"


async def forget_versions(cluster: Cluster) -> None:
    """As if the killed worker had been gone for two minutes."""
    async with cluster.backends.engine.begin() as db:
        await db.exec_driver_sql("UPDATE workflows SET last_seen = last_seen - interval '5 minutes'")


async def test_failures_that_may_pass_are_tried_again_and_others_are_not(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_worker(STEPS)
    flaky = await cluster.create("flaky", directory=str(tmp_path))
    wrong = await cluster.create("wrong")
    assert (await cluster.ended(flaky)).status == "succeeded"
    assert [s for s, _ in statuses(await cluster.events(flaky), 1)] == ["queued", "running", "failed"] * 2 + [
        "queued", "running", "succeeded",
    ]  # fmt: skip
    view = await cluster.ended(wrong)
    assert view.status == "failed" and view.reason == "step 1 (wrong) failed: ValueError: this is wrong, and will be"
    assert statuses(await cluster.events(wrong), 1) == [("queued", 1), ("running", 1), ("failed", 1)]


async def test_a_step_that_fails_for_good_takes_its_siblings_along(cluster: Cluster) -> None:
    cluster.start_worker(STEPS)
    session_id = await cluster.create("beside")
    view = await cluster.ended(session_id)
    assert view.status == "failed"
    assert {step.agent: step.status for step in view.steps} == {"waits_beside": "cancelled", "fails_beside": "failed"}
    assert (await cluster.events(session_id))[-1]["status"] == "failed"


async def test_a_time_limit_ends_attempts(cluster: Cluster) -> None:
    cluster.start_worker(STEPS)
    session_id = await cluster.create("endless")
    view = await cluster.ended(session_id)
    assert view.status == "failed" and "time limit of 0:00:01" in (view.reason or "")
    assert view.steps[0].failures == 2


async def test_an_error_in_a_fold_fails_the_session_with_that_error(cluster: Cluster) -> None:
    cluster.start_worker(STEPS)
    session_id = await cluster.create("clash")
    view = await cluster.ended(session_id)
    assert view.status == "failed" and "InvalidUpdateError" in (view.reason or "")
    assert {step.status for step in view.steps} == {"succeeded"}


async def test_cancelling_stops_what_runs_and_its_token(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_worker(STEPS, STELLWERK_HEARTBEAT_STEPS="30", STELLWERK_LEASE="100")
    session_id = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
    async with cluster.backends.engine.begin() as db:
        lease = await db.exec_driver_sql(
            "SELECT lease_token FROM steps WHERE session_id = %s AND step = 2", (session_id,)
        )
        token = StepToken(session_id, 2, 1, "patient", lease.scalar_one())
    report = Report("patient", "from outside", 0.5)
    assert await reports.append_report(cluster.backends, token, report) > 0
    view = await control.cancel_session(cluster.backends, session_id, principal=OWNER, reason="changed my mind")
    assert view.status == "cancelled"
    with pytest.raises(LeaseLost):
        await reports.append_report(cluster.backends, token, report)
    async with asyncio.timeout(20):  # the doorbell, not the heartbeat, which is 30 s
        while processes_naming(f"# {tmp_path}"):
            await asyncio.sleep(0.05)
    last = (await cluster.events(session_id))[-1]
    assert (last["status"], last["principal"], last["reason"]) == ("cancelled", "owner", "changed my mind")


async def test_a_worker_that_shuts_down_gives_its_steps_back(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.start_worker(STEPS, STELLWERK_LEASE="100")
    session_id = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
    assert await workers_told(cluster) == [first.pid]
    first.send_signal(signal.SIGTERM)
    second = cluster.start_worker(STEPS)
    await cluster.until(session_id, lambda view: view.steps[-1].attempt == 2)
    (tmp_path / "go").touch()
    view = await cluster.ended(session_id)
    assert view.status == "succeeded" and view.steps[-1].lost == 0
    assert first.wait(timeout=20) == 0
    assert await workers_told(cluster) == [second.pid]


async def workers_told(cluster: Cluster) -> list[int]:
    """The processes that have told that they live, and have not shut down."""
    async with cluster.backends.engine.begin() as db:
        rows = await db.exec_driver_sql("SELECT worker FROM workers ORDER BY started_at")
        return [int(row.worker.rpartition(":")[2]) for row in rows]


async def test_a_worker_ends_whatever_its_threads_do_and_gives_all_its_steps_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Sync nodes keep their threads, one node cannot be cancelled, and routers never return."""
    worker = cluster.start_worker(STEPS, STELLWERK_LEASE="100")
    sleeping = [await cluster.create("sleeps", directory=str(tmp_path)) for _ in range(3)]
    staying = await cluster.create("stays", directory=str(tmp_path))
    hanging = [await cluster.create("hanging") for _ in range(2)]
    for session_id in (*sleeping, staying):
        await cluster.until(session_id, lambda view: view.steps and view.steps[0].status == "running")
    for session_id in hanging:
        await cluster.until(session_id, lambda view: view.steps and view.steps[0].status == "succeeded")
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 15) == 0
    for session_id in (*sleeping, staying):
        (step,) = (await service.get_session(cluster.backends, session_id, principal=OWNER)).steps
        assert (step.status, step.attempt, step.lost, step.failures) == ("queued", 2, 0, 0)
        await control.cancel_session(cluster.backends, session_id, principal=OWNER)
    for session_id in hanging:
        await control.cancel_session(cluster.backends, session_id, principal=OWNER)


async def test_what_a_newer_version_stores_and_sends_breaks_nobody(
    database_url: str, own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Columns, a kind of event and arguments of messages that this version does not know."""
    async with cluster_on(database_url, own_valkey.url, tmp_path) as cluster:
        async with tampering(cluster.backends.engine) as db:
            tables = await db.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            for (table,) in tables.all():
                await db.exec_driver_sql(f'ALTER TABLE "{table}" ADD of_tomorrow text')
        cluster.start_worker(STEPS, STELLWERK_RING_AGAIN_AFTER="600")  # so that nobody else rings
        session_id = await cluster.create("patient", directory=str(tmp_path))
        await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
        async with transaction(cluster.backends.engine) as db:
            await append.append(db, [encoding.item(session_id, cast("Any", OF_TOMORROW))])
        (tmp_path / "go").touch()
        assert (await cluster.ended(session_id)).status == "succeeded"
        assert [fault async for fault in verify_stream(cluster.backends.engine, session_id)] == []

        newer = NewerDispatch(own_valkey.url)
        cluster.backends = replace(cluster.backends, dispatch=newer)
        session_id = await cluster.create("mended", directory=str(tmp_path))
        assert (await cluster.ended(session_id)).status == "failed"
        (tmp_path / "there").touch()
        await control.retry_session(cluster.backends, session_id, principal=OWNER)
        assert (await cluster.ended(session_id)).status == "succeeded"
        newer.close()


class NewerDispatch(Dispatch):
    """Its messages say more than this version knows."""

    def advance_session(self, session_id: SessionId) -> None:
        self._send(ADVANCE_SESSION, [str(session_id)], ADVANCE_QUEUE)

    def run_step(self, session_id: SessionId, step: int, attempt: int, *, queue: str, agent: str) -> None:
        self._send(RUN_STEP, [str(session_id), step, attempt, agent], queue)

    def _send(self, name: str, args: list[Any], queue: str) -> None:
        more: dict[str, Any] = {"of_tomorrow": 1}
        args = [*args, "of tomorrow"]
        self._celery.send_task(name, args=args, kwargs=more, headers=more, queue=queue, ignore_result=True)


async def test_a_report_under_a_lost_lease_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    from uuid import uuid4

    cluster.start_worker(STEPS)
    session_id = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
    with pytest.raises(LeaseLost):
        token = StepToken(session_id, 2, 1, "patient", uuid4())
        await reports.append_report(cluster.backends, token, Report("patient", "I am late", 0.5))
    (tmp_path / "go").touch()
    assert (await cluster.ended(session_id)).status == "succeeded"


async def test_a_failed_session_is_retried_in_the_same_log_also_after_a_restart(
    cluster: Cluster, tmp_path: Path
) -> None:
    first = cluster.start_worker(STEPS)
    session_id = await cluster.create("mended", directory=str(tmp_path))
    view = await cluster.ended(session_id)
    assert view.status == "failed" and view.reason == "step 2 (needs_file) failed: ValueError: the file is not there"
    head = view.head
    with pytest.raises(Conflict, match="has failed; only one that has not ended can be cancelled"):
        await control.cancel_session(cluster.backends, session_id, principal=OWNER)
    first.kill()

    (tmp_path / "there").touch()
    view = await control.retry_session(cluster.backends, session_id, principal=OWNER, reason="it is there now")
    assert (view.status, view.ended_at) == ("running", None)
    cluster.start_worker(STEPS)
    view = await cluster.ended(session_id)
    assert (view.status, sorted(view.result["done"])) == ("succeeded", ["beside", "found", "quick"])
    events = await cluster.events(session_id)
    assert [(e["t"], e.get("reason")) for e in events[head - 1 : head + 1]] == [
        ("session_event", "step 2 (needs_file) failed: ValueError: the file is not there"),
        ("session_event", "it is there now"),
    ]
    succeeded = [e["agent"] for e in events if e["t"] == "step_event" and e["status"] == "succeeded"]
    assert sorted(succeeded) == ["beside_it", "needs_file", "quick"]
    with pytest.raises(Conflict, match="only one that has failed"):
        await control.retry_session(cluster.backends, session_id, principal=OWNER)


async def test_the_backlog_is_admitted_by_priority_then_age(cluster: Cluster) -> None:
    """With room for two at a time, and all submitted before the worker comes."""
    async with cluster.backends.engine.begin() as db:
        await db.exec_driver_sql("INSERT INTO workflows VALUES ('quick', %s, '1', '{}')", (quick_version(),))
    priorities = [0, 0, 5, -5, 5, 0, 9, 0] * 5
    created = []
    with_room_for_two = replace(cluster.backends, settings=Settings(max_active_sessions=2))
    for priority in priorities:
        new = NewSession(task="wait", workflow="quick", priority=priority)
        view, _ = await service.create_session(with_room_for_two, new, principal=OWNER)
        created.append((-priority, view.session_id))
    begun_at_once, rest = created[:2], created[2:]
    cluster.start_worker(STEPS, STELLWERK_MAX_ACTIVE_SESSIONS="2")
    for _, session_id in created:
        assert (await cluster.ended(session_id)).status == "succeeded"
    async with cluster.backends.engine.begin() as db:
        rows = await db.exec_driver_sql("SELECT session_id, admitted_at, ended_at FROM sessions ORDER BY 2, 1")
        admitted = [(row.session_id, row.admitted_at, row.ended_at) for row in rows]
    order = [session_id for session_id, _, _ in admitted]
    assert order[:2] == [session_id for _, session_id in begun_at_once]
    place = {session_id: number for number, session_id in enumerate(order)}
    by_right = sorted(rest, key=lambda entry: (entry[0], entry[1].int))
    # two that were admitted in one statement have one time
    assert all(abs(place[session_id] - number) <= 1 for number, (_, session_id) in enumerate(by_right, 2))
    for number, (_, begun, _) in enumerate(admitted):
        assert sum(ended > begun for _, _, ended in admitted[:number]) < 2


def quick_version() -> str:
    return load_workflows([STEPS]).served["quick"].version


async def test_postgres_restarted_under_a_step_costs_no_attempt(home: Path, redis_url: str, tmp_path: Path) -> None:
    with Sentinel(home):
        server = EmbeddedPostgres(home)
        server.start()
        try:
            migrate(server.superuser_url)
            async with cluster_on(server.url, redis_url, tmp_path) as cluster:
                cluster.start_worker(STEPS)
                session_id = await cluster.create("patient", directory=str(tmp_path))
                await cluster.until(session_id, lambda view: (tmp_path / "child").exists())
                server.stop()
                (tmp_path / "go").touch()
                server.start()
                view = await patiently(partial(cluster.ended, session_id))
                assert (view.status, view.steps[-1].attempt) == ("succeeded", 1)
        finally:
            server.stop()


async def test_an_agents_exit_and_its_odd_errors_are_its_own_failures(cluster: Cluster) -> None:
    worker = cluster.start_worker(STEPS)
    exits, complains = await cluster.create("exits"), await cluster.create("complains")
    view = await cluster.ended(exits)
    assert view.status == "failed" and "SystemExit: as the main function" in (view.reason or "")
    view = await cluster.ended(complains)
    assert view.status == "failed" and "ValueError: cannot open caf?.txt\ufffdxxx" in (view.reason or "")
    assert (await cluster.ended(await cluster.create("quick"))).status == "succeeded"
    assert worker.poll() is None


async def test_values_that_json_does_not_know_are_kept_for_the_fold_and_readable_for_people(cluster: Cluster) -> None:
    cluster.start_worker(STEPS)
    odd, asks = await cluster.create("odd"), await cluster.create("asks_oddly")
    view = await cluster.ended(odd)
    assert view.status == "succeeded"
    assert view.result == {"values": ["nan", "a\ufffdb", str(2**70), "caf?", {"1": [2, 3]}]}
    workflow = load_workflows([STEPS]).served["odd"]
    kept = fold.read(workflow, (await service_row(cluster, odd)).snapshot).values["values"]
    assert kept[0] != kept[0] and kept[1:] == ["a\x00b", 2**70, "caf\udce9", {1: (2, 3)}]

    await cluster.until(asks, lambda view: view.status == "waiting")
    (asked,) = await approvals.list_approvals(cluster.backends, session_id=asks, principal=OWNER)
    assert asked.question == {"how many": str(2**70)}
    lookalike = {"$langgraph": [1]}  # an answer is plain JSON, whatever it looks like
    await answer(cluster.backends, asks, asked.step, answer=lookalike)
    assert (await cluster.ended(asks)).result == {"values": [lookalike]}


async def test_snapshots_that_a_worker_cannot_read_are_rebuilt_from_the_log(cluster: Cluster) -> None:
    """For the node that reads the state, and for the fold."""
    cluster.start_worker(STEPS)
    for snapshot in (None, b"of another release"):
        session_id = await cluster.create("asks_oddly", values=["kept in the log"])
        await cluster.until(session_id, lambda view: view.status == "waiting")
        async with cluster.backends.engine.begin() as db:
            await db.exec_driver_sql("UPDATE sessions SET snapshot = %s WHERE session_id = %s", (snapshot, session_id))
        (asked,) = await approvals.list_approvals(cluster.backends, session_id=session_id, principal=OWNER)
        await answer(cluster.backends, session_id, asked.step, answer=3)
        assert (await cluster.ended(session_id)).result == {"values": [3]}
        assert (await service_row(cluster, session_id)).snapshot != snapshot


async def test_large_updates_are_folded_and_large_results_keep_their_shape(cluster: Cluster) -> None:
    cluster.start_worker(STEPS)
    session_id = await cluster.create("heavy")
    view = await cluster.ended(session_id)
    assert view.result == {"values": ["x" * 400_000]}
    closing = (await cluster.events(session_id))[-1]
    assert closing["result"]["values"].keys() == {"$artifact", "size"}


async def test_routers_that_never_return_fail_their_own_sessions_only(cluster: Cluster) -> None:
    cluster.start_worker(STEPS, STELLWERK_FOLD_TIME_LIMIT="1")
    hanging = [await cluster.create("hanging") for _ in range(4)]
    others = [await cluster.create("quick") for _ in range(4)]
    for session_id in hanging:
        view = await cluster.ended(session_id)
        assert view.status == "failed" and "FoldTimeout" in (view.reason or "")
    for session_id in others:
        assert (await cluster.ended(session_id)).status == "succeeded"
