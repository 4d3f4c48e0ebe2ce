"""Databases that older versions made are upgraded: nothing in them is lost, and what was open goes on to its end."""

import gzip
import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.database import transaction
from app.embedded.installation import postgres_binary, runner
from app.events import read
from app.events.honouring import epoch_of
from app.events.proof.heads import LOOKED_AT, record_heads
from app.principals.model import DEPLOYMENT, OWNER
from app.progress import SessionId
from app.schema import check_schema, migrate
from app.sessions import approvals, control, service
from app.sessions.model import NewSession, SessionView
from app.sessions.verifying import verify_all
from tests.answering import answer
from tests.cluster import Cluster, cluster_on
from tests.following import engine_of, quick
from tests.graphs import everything
from tests.graphs.driving import plain
from tests.serving import TOKEN, Served, serving_app
from tests.stacks import stellwerk
from workers.graph import fold
from workers.graph.codec import readable
from workers.graph.loading import load_workflows

DATABASES = Path(__file__).parents[1] / "databases"
COMMITS = ("c8f0eb1", "248adbb", "7c538bd", "b21d13f")
"""Those that made them, oldest first."""
WITHOUT_FINAL_STATES = COMMITS[:3]

EVERYTHING = "tests.graphs.everything"
WORKFLOWS = f"workers.workflows.repair,tests.graphs.gated,tests.graphs.chatty,tests.graphs.steps,{EVERYTHING}"
NOT_FOLDED = {"unserved", "early", "created", "backlog"}
"""Sessions that have not begun: there is no state that could be compared."""
INTERRUPTED = {"chatty": "chatter", "patient": "patient", "mended": "needs_file", "quick": "quick"}
"""By workflow, the agent whose step was not done."""


@dataclass(frozen=True)
class Upgraded:
    """An old database, restored and migrated, and what readers saw in it when it was dumped."""

    database_url: str
    seen: dict[str, Any]
    ids: dict[str, SessionId]
    """By name; the README of the databases says what each session is."""


def tool(name: str, database_url: str, *options: str, given: str = "") -> str:
    """Runs a client program of the embedded Postgres and returns what it said."""
    done = runner().run([postgres_binary(name), f"--dbname={database_url}", *options], given)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(params=COMMITS)
def upgraded(request: pytest.FixtureRequest, empty_database_url: str) -> Upgraded:
    dump = gzip.decompress((DATABASES / f"{request.param}.sql.gz").read_bytes()).decode()
    tool("psql", empty_database_url, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", given=dump)
    migrate(empty_database_url)
    seen: dict[str, Any] = json.loads((DATABASES / f"{request.param}.json").read_bytes())
    ids = {name: SessionId(UUID(stream["session_id"])) for name, stream in seen["streams"].items()}
    return Upgraded(empty_database_url, seen, ids)


def test_an_upgraded_database_has_the_schema_of_a_new_one(upgraded: Upgraded, database_url: str) -> None:
    """With its functions, indexes and storage settings: a migration that was released must not be edited."""
    assert schema_of(upgraded.database_url) == schema_of(database_url)
    check_schema(upgraded.database_url)


def schema_of(database_url: str) -> list[str]:
    said = tool("pg_dump", database_url, "--schema-only", "--no-owner", "--no-privileges")
    return [line for line in said.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


async def test_an_upgrade_changes_nothing_that_readers_saw(upgraded: Upgraded, redis_url: str, home: Path) -> None:
    seen, ids = upgraded.seen, upgraded.ids
    async with engine_of(upgraded.database_url) as engine, transaction(engine) as db:
        for name, before in seen["streams"].items():
            state = await read.stream_state(db, ids[name])
            assert state.epoch == seen["epoch"]  # as after an upgrade in place: no client's cursor is reset
            found = (state.status, state.closed, state.head, state.head_chain.hex())
            assert found == (before["status"], before["closed"], before["head"], before["head_chain"]), name
            epochs = text("SELECT DISTINCT epoch FROM events WHERE stream_id = :id ORDER BY epoch")
            assert list(await db.scalars(epochs, {"id": ids[name]})) == before["epochs"], name
            page = await read.read_page(db, state, after=0, limit=1000)
            assert [event.offset for event in page] == list(range(1, state.head + 1)), name
            if name in seen["wire"]:
                assert [event.wire() for event in page] == seen["wire"][name]

    verified = cli(home, upgraded.database_url, redis_url, "verify", "--all")
    streams = [*seen["streams"].values(), *([seen["operators"]] if "operators" in seen else [])]
    events = sum(before["head"] for before in streams)
    assert verified.stdout == f"{len(streams)} stream(s), {events} event(s): nothing was changed\n"

    async with engine_of(upgraded.database_url) as engine:  # heads of both lives, recorded now, hold
        assert await record_heads(engine, DEPLOYMENT, max_bytes=100_000, at_most=LOOKED_AT) == len(streams)
        assert [fault async for found in verify_all(engine) for fault in found.faults] == []

    rebuilt = cli(home, upgraded.database_url, redis_url, "rebuild", "--all", "--check")
    assert f"{len(ids)} session(s), 0 different" in rebuilt.stderr
    same = {line.split()[0] for line in rebuilt.stdout.splitlines() if is_proven(line)}
    assert same == {str(ids[name]) for name in ids.keys() - NOT_FOLDED}, rebuilt.stdout


def cli(home: Path, database_url: str, redis_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    servers = {"STELLWERK_DATABASE_URL": database_url, "STELLWERK_REDIS_URL": redis_url}
    done = stellwerk(home, *arguments, variables=servers | {"STELLWERK_WORKFLOWS": WORKFLOWS})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def is_proven(line: str) -> bool:
    """A snapshot that another release or LangGraph wrote is rebuilt when needed; before, it cannot be compared."""
    return line.endswith(" same") or any(
        f" skipped: the snapshot's {what} is " in line for what in ("format", "langgraph")
    )


async def test_the_old_logs_fold_to_what_their_sessions_delivered(
    upgraded: Upgraded, redis_url: str, home: Path
) -> None:
    written = cli(home, upgraded.database_url, redis_url, "rebuild", "--all")
    assert "0 different" in written.stderr
    checked = cli(home, upgraded.database_url, redis_url, "rebuild", "--all", "--check")
    same = {line.split()[0] for line in checked.stdout.splitlines() if line.endswith(" same")}
    assert same == {str(upgraded.ids[name]) for name in upgraded.ids.keys() - NOT_FOLDED}
    served = {(w.name, w.version): w for w in load_workflows(WORKFLOWS.split(",")).served.values()}
    ended = text("SELECT workflow, workflow_version, snapshot, result FROM sessions WHERE status = 'succeeded'")
    async with engine_of(upgraded.database_url) as engine, transaction(engine) as db:
        rows = list(await db.execute(ended))
    assert len(rows) > 2
    for workflow, version, snapshot, result in rows:
        assert readable(fold.read(served[workflow, version], snapshot).output).items() <= result.items()


async def test_what_was_open_goes_on_and_cursors_hold(
    upgraded: Upgraded, redis_url: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the sessions name the files that they wait for relative to their worker
    for file in ("go", "there"):
        Path(file).touch()
    async with cluster_on(upgraded.database_url, redis_url, home) as cluster:
        cluster.start_worker(WORKFLOWS)
        await what_was_interrupted_is_done(cluster, upgraded)
        await what_was_asked_is_answered(cluster, upgraded)
        await what_failed_is_tried_again(cluster, upgraded)
        await what_is_not_served_waits_until_it_is(cluster, upgraded)
        await what_was_sent_with_a_key_is_not_done_again(cluster, upgraded)
        async with serving_app(quick(database_url=upgraded.database_url, redis_url=redis_url, token=TOKEN)) as served:
            await cursors_hold(served, upgraded)
            await cursors_of_the_old_epoch_are_reset(served, upgraded)
            await what_there_was_belongs_to_the_project_default(served, upgraded)
            await keys_and_what_was_done_with_them_hold(served, upgraded)
            await the_feed_has_all_lives(served, upgraded)
            await what_ended_is_continued_if_there_is_a_final_state(cluster, served, upgraded)


async def what_was_interrupted_is_done(cluster: Cluster, upgraded: Upgraded) -> None:
    """The worker of its step was killed, or never came; what it ran before stands."""
    interrupted = [("lost", 2, 1), ("parked", 2, 1), ("retried", 2, 0), ("created", 1, 0), ("backlog", 1, 0)]
    if "early" in upgraded.ids:
        interrupted.append(("early", 1, 0))
    for name, attempt, lost in interrupted:
        view = await cluster.ended(upgraded.ids[name])
        assert view.status == "succeeded", (name, view.reason)
        (step,) = [step for step in view.steps if step.agent == INTERRUPTED[view.workflow]]
        assert (step.attempt, step.lost) == (attempt, lost), name
        if name == "parked":
            assert view.result["done"] == ["quick", "patient"]


async def what_was_asked_is_answered(cluster: Cluster, upgraded: Upgraded) -> None:
    workflow = load_workflows([EVERYTHING]).served["everything"]
    whole = readable((await plain(workflow, {"goal": "the goal"}, everything.ANSWERS)).output)
    assert (await answered(cluster, upgraded, "asks_again", None, "fine")).result == whole
    assert (await answered(cluster, upgraded, "asks_within", "fine")).result == whole
    assert (await answered(cluster, upgraded, "asks_oddly", [1])).result == {"values": [[1]]}
    assert (await answered(cluster, upgraded, "asks_in_both_lives", "yes")).result["outcome"] == "yes"


async def answered(cluster: Cluster, upgraded: Upgraded, name: str, *answers: Any) -> SessionView:
    """The session after its end."""
    session_id = upgraded.ids[name]
    for given in answers:
        await cluster.until(session_id, lambda view: view.status == "waiting" and view.steps[-1].status == "waiting")
        (asked,) = await approvals.list_approvals(cluster.backends, session_id=session_id, principal=OWNER)
        await answer(cluster.backends, session_id, asked.step, answer=given)
    view = await cluster.ended(session_id)
    assert view.status == "succeeded", (name, view.reason)
    return view


async def what_failed_is_tried_again(cluster: Cluster, upgraded: Upgraded) -> None:
    for name, status, reason in (
        ("mended", "succeeded", ""),  # the file that it missed is there now
        ("wrong", "failed", "step 1 (wrong) failed: ValueError: this is wrong"),
        ("beside", "failed", "step 1 (fails_beside) failed: ValueError: the other one"),
        ("clash", "failed", "FoldFailed: InvalidUpdateError: At key 'directory'"),
    ):
        await control.retry_session(cluster.backends, upgraded.ids[name], principal=OWNER)
        view = await cluster.ended(upgraded.ids[name])
        assert view.status == status and (view.reason or "").startswith(reason), (name, view.reason)
        assert view.head > upgraded.seen["streams"][name]["head"]


async def what_is_not_served_waits_until_it_is(cluster: Cluster, upgraded: Upgraded) -> None:
    view = await service.get_session(cluster.backends, upgraded.ids["unserved"], principal=OWNER)
    assert view.status == "waiting" and f"no worker serves version {view.workflow_version}" in (view.reason or "")
    cluster.start_worker("tests.graphs.renamed")
    cluster.checked_modules.discard("tests.graphs.renamed")  # it declares a workflow of the same name
    view = await cluster.ended(upgraded.ids["unserved"])
    assert (view.status, view.result["done"]) == ("succeeded", ["quick", "renamed"])


async def what_was_sent_with_a_key_is_not_done_again(cluster: Cluster, upgraded: Upgraded) -> None:
    before = await service.get_session(cluster.backends, upgraded.ids["repaired"], principal=OWNER)
    new = NewSession(task=before.task, path=before.path)
    sender = replace(OWNER, name=before.principal)
    view, is_new = await service.create_session(cluster.backends, new, principal=sender, idempotency_key="repair once")
    assert (view.session_id, is_new) == (upgraded.ids["repaired"], False)


async def what_there_was_belongs_to_the_project_default(served: Served, upgraded: Upgraded) -> None:
    seen = {}
    for project in ("default", "another"):
        asked = {"name": "new-reader", "project": project, "scopes": ["read"]}
        made = (await served.client.post("/keys", json=asked)).json()
        bearer = {"Authorization": f"Bearer {made['key']}"}
        page = await served.client.get("/sessions", params={"limit": 1000}, headers=bearer)
        seen[project] = {view["session_id"] for view in page.json()["sessions"]}
    assert seen == {"default": set(map(str, upgraded.ids.values())), "another": set()}
    async with transaction(served.gateway.engine) as db:
        of_streams = text(
            "SELECT count(*) FROM streams s JOIN sessions x ON x.session_id = s.stream_id"
            " WHERE s.workflow_name = x.workflow AND s.project = x.project"
        )
        assert await db.scalar(of_streams) == len(upgraded.ids)


async def what_ended_is_continued_if_there_is_a_final_state(
    cluster: Cluster, served: Served, upgraded: Upgraded
) -> None:
    asked = {"task": "x", "continues": str(upgraded.ids["flaky"])}
    answered = await served.client.post("/sessions", json=asked)
    if upgraded.seen["commit"] in WITHOUT_FINAL_STATES:
        assert answered.status_code == 409
        assert "ended before final states were kept" in answered.json()["detail"]
    else:
        assert answered.status_code == 201, answered.text
        assert (await cluster.ended(SessionId(UUID(answered.json()["session_id"])))).status == "succeeded"


async def keys_and_what_was_done_with_them_hold(served: Served, upgraded: Upgraded) -> None:
    if "key" not in upgraded.seen:
        return
    bearer = {"Authorization": f"Bearer {upgraded.seen['key']}"}
    page = await served.client.get("/sessions", params={"limit": 1000}, headers=bearer)
    assert {view["session_id"] for view in page.json()["sessions"]} == set(map(str, upgraded.ids.values()))
    operators = upgraded.seen["operators"]
    page = await served.client.get("/operators/events", params={"after": 0, "limit": operators["head"]})
    done = page.json()["events"]
    assert {event["stream_id"] for event in done} == {operators["session_id"]}
    assert [event["offset"] for event in done] == list(range(1, operators["head"] + 1))


async def the_feed_has_all_lives(served: Served, upgraded: Upgraded) -> None:
    """Also what carries the transaction numbers of clusters on which the database was before."""
    async with transaction(served.gateway.engine) as db:
        await db.execute(text("UPDATE events SET xid = '9000000000000' WHERE epoch = 1"))
        rows = await db.execute(text("SELECT stream_id::text, head FROM streams WHERE kind <> 'heads'"))
        heads: dict[str, int] = {row[0]: row[1] for row in rows}
    found: dict[str, list[int]] = {stream_id: [] for stream_id in heads}
    page: dict[str, Any] = {"next": "0", "head": None}
    while page["next"] != page["head"]:
        page = (await served.client.get("/events", params={"after": page["next"], "limit": 1000})).json()
        for event in page["events"]:
            found[event.get("session_id") or event["stream_id"]].append(event["offset"])
    assert found == {stream_id: list(range(1, head + 1)) for stream_id, head in heads.items()}


async def cursors_hold(served: Served, upgraded: Upgraded) -> None:
    """Now that all sessions have ended, each stream ends by itself."""
    whole = {name: data_of(await stream(served, session_id)) for name, session_id in upgraded.ids.items()}
    for lines in whole.values():
        assert [json.loads(line)["offset"] for line in lines] == list(range(1, len(lines) + 1))
    for name, lines in upgraded.seen["wire"].items():
        assert whole[name][: len(lines)] == lines
    epochs = await epochs_of_cursors(served, upgraded)
    for (name, offset), written_in in zip(upgraded.seen["cursors"], epochs, strict=True):
        frames = await stream(served, upgraded.ids[name], after=offset, epoch=upgraded.seen["epoch"])
        assert "event: reset\n" not in frames
        assert data_of(frames) == whole[name][offset:], (name, offset)
        # A bare number means the first epoch: what was written later is another event to that reader.
        bare = await stream(served, upgraded.ids[name], after=offset)
        assert ("event: reset\n" in bare) == (written_in > 1)
        assert data_of(bare) == whole[name][0 if written_in > 1 else offset :]
    assert set(epochs) == {1, upgraded.seen["epoch"]}


async def epochs_of_cursors(served: Served, upgraded: Upgraded) -> list[int]:
    async with transaction(served.gateway.engine) as db:
        return [
            await epoch_of(db, upgraded.ids[name], offset, known=1) or 1 for name, offset in upgraded.seen["cursors"]
        ]


async def cursors_of_the_old_epoch_are_reset(served: Served, upgraded: Upgraded) -> None:
    """The dump was restored on another cluster: what was written since is nothing that an old reader has seen."""
    seen, lost = upgraded.seen, upgraded.ids["lost"]
    frames = await stream(served, lost)
    (epoch,) = re.findall(r'^event: stream\ndata: .*"epoch":(\d+)', frames, re.MULTILINE)
    assert int(epoch) > seen["epoch"]
    head = len(data_of(frames))
    assert f"id: {epoch}.{head}\nevent: end\n" in frames
    old = await stream(served, lost, after=head, epoch=seen["epoch"])
    assert "event: reset\n" in old
    assert data_of(old) == data_of(frames)


async def stream(served: Served, session_id: SessionId, **start: int) -> str:
    """All frames of a session that has ended, as they come over SSE."""
    parameters: dict[str, str | int] = {"session_id": str(session_id), **start}
    answer = await served.client.get("/events", params=parameters)
    assert answer.status_code == 200
    return answer.text


def data_of(frames: str) -> list[str]:
    """The events' `data:` lines."""
    return re.findall(r'^data: (\{"offset":.*)$', frames, re.MULTILINE)
