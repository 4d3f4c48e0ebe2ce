"""A backup that was made in the middle of work is put back: readers learn what is gone, and what was open goes on."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from sqlalchemy import text

from app.database import transaction
from app.embedded.home import make_directory
from app.embedded.installation import postgres_binary, runner
from app.embedded.postgres import EmbeddedPostgres
from app.events.epochs import bump_epoch
from app.principals.model import OWNER
from app.progress import SessionId
from app.schema import migrate
from app.sessions import approvals, control, service
from app.sessions.model import NewSession, SessionView
from tests import answering
from tests.cluster import Cluster, cluster_on
from tests.following import engine_of, quick
from tests.serving import TOKEN, Served, serving_app
from tests.stacks import stellwerk

MENDING = "tests.graphs.mending"
ANSWERS = ("of the first life", "of the second life")


@dataclass
class Backup:
    """How a backup is made while work goes on, and put back; returns the address of what was put back."""

    make: Callable[[], None]
    put_back: Callable[[], str]


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    home.chmod(0o711)
    made = EmbeddedPostgres(make_directory(home / "own", mode=0o711))
    made.start()
    yield made
    made.stop()


def tool(name: str, *options: str) -> None:
    done = runner().run([postgres_binary(name), *options], "")
    assert done.returncode == 0, done.stdout


@pytest.fixture(params=["dump", "data directory"])
def backup(request: pytest.FixtureRequest, server: EmbeddedPostgres, home: Path, empty_database_url: str) -> Backup:
    kept = make_directory(home / "backup", mode=0o777)  # root's Postgres is nobody
    if request.param == "dump":

        def restore() -> str:  # into the cluster of the whole run
            tool("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={empty_database_url}", str(kept / "dump"))
            migrate(empty_database_url)
            return empty_database_url

        return Backup(
            lambda: tool("pg_dump", "--format=custom", f"--file={kept / 'dump'}", server.superuser_url), restore
        )

    def copy_back() -> str:
        data = home / "own" / "postgres" / "data"
        server.stop()
        shutil.rmtree(data)
        subprocess.run(["cp", "-a", kept / "data", data], check=True)
        server.start()
        asyncio.run(bump(server.superuser_url))  # `stellwerk up` sees by itself that it was copied; an operator says so
        return server.url

    return Backup(
        lambda: tool(
            "pg_basebackup", "--checkpoint=fast", f"--pgdata={kept / 'data'}", f"--dbname={server.superuser_url}"
        ),
        copy_back,
    )


async def bump(database_url: str) -> None:
    async with engine_of(database_url) as engine:
        await bump_epoch(engine, "restored")


@asynccontextmanager
async def life(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[tuple[Cluster, Served]]:
    """A worker and a gateway, until their end."""
    settings = quick(database_url=database_url, redis_url=redis_url, token=TOKEN)
    async with cluster_on(database_url, redis_url, directory) as cluster:
        cluster.start_worker(MENDING)
        async with serving_app(settings) as served:
            yield cluster, served


async def frames(served: Served, session_id: SessionId, last: str) -> list[ServerSentEvent]:
    """What an `EventSource` gets that comes back to a session that has ended; nothing with 204."""
    headers = {"Last-Event-ID": last, "Accept": "text/event-stream"}
    async with aconnect_sse(served.client, "GET", f"/sessions/{session_id}/events", headers=headers) as source:
        if source.response.status_code == 204:
            return []
        return [frame async for frame in source.aiter_sse() if frame.data]


async def page(served: Served, path: str, **query: str) -> httpx.Response:
    return await served.client.get(path, params=query)


async def offset_of(cluster: Cluster, session_id: SessionId) -> int:
    return (await service.get_session(cluster.backends, session_id, principal=OWNER)).head


def is_at(agent: str, status: str) -> Callable[[SessionView], bool]:
    return lambda view: (view.steps[-1].agent, view.steps[-1].status) == (agent, status) if view.steps else False


async def answer(cluster: Cluster, session_id: SessionId, said: str) -> None:
    await cluster.until(session_id, is_at("ask", "waiting"))
    (asked,) = await approvals.list_approvals(cluster.backends, session_id=session_id, principal=OWNER)
    await answering.answer(cluster.backends, session_id, asked.step, answer=said)


async def begun(cluster: Cluster, project: Path, key: str, **graph_input: Any) -> SessionId:
    await cluster.serves("mending")
    new = NewSession(task="mend", workflow="mending", path=str(project), input=graph_input)
    view, _ = await service.create_session(cluster.backends, new, principal=OWNER, idempotency_key=key)
    return view.session_id


@pytest.mark.timeout(300)
async def test_work_and_readers_go_on_after_a_restore(
    backup: Backup, server: EmbeddedPostgres, redis_url: str, home: Path, tmp_path: Path
) -> None:
    gate, project = tmp_path / "gate", tmp_path / "project"
    project.mkdir()
    (project / "file.txt").write_text("as it was\n")
    migrate(server.superuser_url, app=server.url)
    async with life(server.url, redis_url, home) as (cluster, served):
        running = await begun(cluster, project, "running", gate=str(gate))
        asking = await begun(cluster, project, "asking", gate="/", asks=True)
        await cluster.until(asking, is_at("ask", "waiting"))
        await cluster.until(running, is_at("hold", "running"))
        in_backup = {one: await offset_of(cluster, one) for one in (running, asking)}
        feed = (await page(served, "/events")).json()["next"]
        await asyncio.to_thread(backup.make)
        # What comes now is lost: sessions end, commits are made, one is new, and readers see it all.
        lost = await begun(cluster, project, "lost", gate="/")
        gate.touch()
        await answer(cluster, asking, ANSWERS[0])
        first = {one: await cluster.ended(one) for one in (running, asking, lost)}
        assert {view.status for view in first.values()} == {"succeeded"}
        lost_feed = (await page(served, "/events", tail="1")).json()["next"]
        seen = {one: [frame.data for frame in await frames(served, one, "0") if is_event(frame)] for one in in_backup}
    gate.unlink()

    database_url = await asyncio.to_thread(backup.put_back)
    async with life(database_url, redis_url, home) as (cluster, served):
        gone = await page(served, f"/sessions/{lost}/events")
        assert gone.status_code == 404
        # The worker of its attempt is gone: it is tried again, in the workspace as the backup knows it.
        await answer(cluster, asking, ANSWERS[1])
        gate.touch()
        second = {one: await cluster.ended(one) for one in (running, asking)}
        for one, view in second.items():
            assert view.status == "succeeded" and view.epoch > 1, view.reason
            patch = await page(served, f"/sessions/{one}/patch")
            assert "+begun" in patch.text and "ended.txt" in patch.text
            assert (ANSWERS[1] in patch.text) == (one == asking) and ANSWERS[0] not in patch.text
        assert [(step.agent, step.lost) for step in second[running].steps][1] == ("hold", 1)
        await readers_of_a_stream(served, home, in_backup, first, seen)
        await readers_of_the_feed(served, feed, lost_feed)
        # A key of before the backup names its session, a later one is new again.
        assert await begun(cluster, project, "asking", gate="/", asks=True) == asking
        again = await begun(cluster, project, "lost", gate="/")
        assert again != lost and (await cluster.ended(again)).status == "succeeded"
        await nothing_was_changed(database_url, redis_url, home)


def is_event(frame: ServerSentEvent) -> bool:
    return frame.event not in {"stream", "reset", "end"}


async def readers_of_a_stream(
    served: Served,
    home: Path,
    in_backup: dict[SessionId, int],
    first: dict[SessionId, SessionView],
    seen: dict[SessionId, list[str]],
) -> None:
    """They come back with the bare numbers of the first life, and know nothing of epochs."""
    for one, offset in in_backup.items():
        whole = [frame for frame in await frames(served, one, "0") if is_event(frame)]
        epoch = json.loads((await page(served, f"/sessions/{one}")).text)["epoch"]
        assert [frame.id for frame in whole] == [f"{epoch}.{number + 1}" for number in range(len(whole))]
        assert [frame.data for frame in whole[:offset]] == seen[one][:offset]  # byte for byte, whatever comes after
        assert whole[offset].data != seen[one][offset]
        survived = await frames(served, one, str(offset))
        assert (survived[0].event, survived[0].id) == ("stream", f"{epoch}.{offset}")
        assert [frame.data for frame in survived if is_event(frame)] == [frame.data for frame in whole[offset:]]
        for cursor in (offset + 1, first[one].head):  # what it had last is lost, or another event now
            back = await frames(served, one, str(cursor))
            assert [frame.event for frame in back[:2]] == ["stream", "reset"]
            assert [frame.data for frame in back if is_event(frame)] == [frame.data for frame in whole]
            assert (await page(served, f"/sessions/{one}/events", after=str(cursor))).status_code == 410
        assert await frames(served, one, whole[-1].id) == []
        token = {"STELLWERK_URL": served.url, "STELLWERK_TOKEN": TOKEN}
        told = await asyncio.to_thread(
            stellwerk, home, "tail", str(one), "--json", "--after", str(first[one].head), variables=token
        )
        assert told.stdout.splitlines() == [frame.data for frame in whole] and "reset: " in told.stderr


async def readers_of_the_feed(served: Served, feed: str, lost_feed: str) -> None:
    for cursor in (feed, lost_feed):
        since = (await page(served, "/events", after=cursor)).json()
        assert since["next"] == since["head"]
        headers = {"Last-Event-ID": cursor, "Accept": "text/event-stream"}
        async with aconnect_sse(served.client, "GET", "/events", headers=headers) as source:
            events = source.aiter_sse()
            assert [(await anext(events)).event for _ in range(2)] == ["stream", "reset"]
            found = [(await anext(events)).data for _ in since["events"]]
        assert [json.loads(data)["offset"] for data in found] == [event["offset"] for event in since["events"]]
        assert {event["status"] for event in since["events"] if event["t"] == "session_event"} >= {"succeeded"}


async def nothing_was_changed(database_url: str, redis_url: str, home: Path) -> None:
    servers = {"STELLWERK_DATABASE_URL": database_url, "STELLWERK_REDIS_URL": redis_url}
    verified = await asyncio.to_thread(stellwerk, home, "verify", "--all", variables=servers)
    assert verified.returncode == 0 and verified.stdout.endswith("nothing was changed\n"), verified.stdout
    async with engine_of(database_url) as engine, transaction(engine) as db:
        assert await db.scalar(text("SELECT count(*) FROM steps WHERE status IN ('queued', 'running')")) == 0


@pytest.mark.timeout(300)
async def test_a_session_whose_workspace_was_not_put_back_says_so_and_goes_on_when_it_is(
    database_url: str, redis_url: str, home: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    async with cluster_on(database_url, redis_url, home) as cluster:
        cluster.start_worker(MENDING)
        session_id = await begun(cluster, project, "asking", gate="/", asks=True)
        await cluster.until(session_id, is_at("ask", "waiting"))
        there = home / "workspaces" / str(session_id)
        aside = there.rename(home / "aside")
        await answer(cluster, session_id, "yes")
        view = await cluster.until(session_id, lambda view: view.status == "failed")
        assert "lacks the commit" in (view.reason or "") and not there.exists()
        aside.rename(there)
        await control.retry_session(cluster.backends, session_id, principal=OWNER)
        assert (await cluster.ended(session_id)).status == "succeeded"
