"""What `POST /sessions` takes beside a task: a context, a config, and a session to go on from."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from sqlalchemy import text

from app.database import transaction
from app.events.proof.entries import verify_stream
from app.principals.model import OWNER
from app.progress import SessionId
from app.sessions import attempts, control, history, service, supersteps
from app.sessions.model import NewSession
from tests.keyed import control_events, make_key
from tests.populating import advance, begun, created, ended, running, waiting
from tests.roles import tampering
from tests.serving import Served, another, serving

STATE = {"plan": ["ruff"], "when": {"$langgraph": ["msgpack", "xQ=="]}}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def succeeded(
    served: Served, state: Any = STATE, *, project: str = "default", base_commit: str | None = None, **given: Any
) -> SessionId:
    """A session that ended in `state`, as the codec writes it."""
    backends = served.gateway.backends
    new = NewSession(task="first", **given)
    view, _ = await service.create_session(backends, new, principal=OWNER, project=project)
    claim = await begun(backends, view.session_id)
    await attempts.complete_step(backends, claim, {"plan": ["ruff"]}, commit=base_commit)
    written = None if state is None else orjson.dumps(state)
    await advance(backends, view.session_id, finished=True, state=written, base_commit=base_commit)
    return view.session_id


async def post(served: Served, key: str | None = None, headers: Any = None, **body: Any) -> httpx.Response:
    sent = ({"Idempotency-Key": key} if key else {}) | (headers or {})
    return await served.client.post("/sessions", json={"task": "next"} | body, headers=sent)


async def first_event(served: Served, session_id: object) -> dict[str, Any]:
    page = (await served.client.get(f"/sessions/{session_id}/events", params={"limit": 1})).json()
    found: dict[str, Any] = page["events"][0]
    return found


async def test_a_context_and_a_config_are_kept_and_told(served: Served) -> None:
    context = {"user": "ada", "n": 1}
    config = {"tags": ["a"], "metadata": {"m": None}, "configurable": {"model": "small"}, "recursion_limit": 7}
    made = (await post(served, context=context, config=config)).json()
    event = await first_event(served, made["session_id"])
    assert (event["context"], event["config"]) == (context, config)
    session_id = SessionId(UUID(made["session_id"]))
    row = await history.read_session(served.gateway.backends, session_id)
    logged = await history.read_history(served.gateway.backends, session_id)
    assert (row.context, row.config) == (logged.context, logged.config) == (context, config)


async def test_what_is_not_given_is_not_told(served: Served) -> None:
    made = (await post(served)).json()
    assert not {"context", "config", "continues", "state"} & (await first_event(served, made["session_id"])).keys()
    session_id = SessionId(UUID(made["session_id"]))
    row = await history.read_session(served.gateway.backends, session_id)
    logged = await history.read_history(served.gateway.backends, session_id)
    assert (row.context, row.config, row.continues) == (None, {}, None)
    assert (logged.context, logged.config, logged.start_state) == (None, {}, None)


async def test_an_empty_context_is_not_none(served: Served) -> None:
    """A schema makes its own defaults of it, as in LangGraph."""
    session_id = SessionId(UUID((await post(served, context={})).json()["session_id"]))
    row = await history.read_session(served.gateway.backends, session_id)
    logged = await history.read_history(served.gateway.backends, session_id)
    assert (row.context, logged.context) == ({}, {})


async def test_large_ones_become_artifacts(served: Served) -> None:
    large: dict[str, Any] = {"x": "y" * 200_000}
    made = (await post(served, input=large, context=large, config={"configurable": large})).json()
    event = await first_event(served, made["session_id"])
    assert all(event[name]["size"] > 200_000 for name in ("input", "context", "config"))
    logged = await history.read_history(served.gateway.backends, SessionId(UUID(made["session_id"])))
    assert (logged.context, logged.config) == (large, {"configurable": large})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"context": []}, "context"),
        ({"context": {"a": "\x00"}}, "NUL"),
        ({"config": {"callbacks": []}}, "config.callbacks"),
        ({"config": {"tags": "a"}}, "config.tags"),
        ({"config": {"tags": ["x"] * 101}}, "config.tags"),
        ({"config": {"metadata": []}}, "config.metadata"),
        ({"config": {"recursion_limit": 0}}, "config.recursion_limit"),
        ({"config": {"recursion_limit": "7"}}, "config.recursion_limit"),
        ({"config": {"recursion_limit": 10_001}}, "it may be 1 to 10000 (STELLWERK_MAX_SUPERSTEPS)"),
        ({"config": {"configurable": {"thread_id": "x"}}}, "thread_id: LangGraph keeps this"),
        ({"config": {"configurable": {"checkpoint_ns": "", "checkpoint_map": {}}}}, "checkpoint_map, checkpoint_ns"),
        ({"config": {"configurable": {"checkpoint_id": "x"}}}, "checkpoint_id"),
        ({"config": {"configurable": {"__pregel_send": 1}}}, "__pregel_send"),
        ({"continues": "no id"}, "continues"),
        ({"continues": str(uuid4()), "path": "/tmp"}, "leave `path` and `repo` out"),
    ],
)
async def test_what_is_refused(served: Served, body: dict[str, Any], told: str) -> None:
    answer = await post(served, **body)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert (await served.client.get("/sessions")).json()["sessions"] == []


@pytest.mark.parametrize("repo", ["https://h/x?t=CANARY-1", "https://h/x#CANARY-1", "https:///u:CANARY-1@h/x"])
async def test_a_secret_in_an_address_is_refused_and_said_nowhere(
    served: Served, repo: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await post(served, repo=repo)
    assert answer.status_code == 422 and "user:password@" in answer.json()["detail"]
    assert "CANARY" not in answer.text and "CANARY" not in "".join(capfd.readouterr())
    async with transaction(served.gateway.engine) as db:
        rows = await db.execute(
            text("SELECT to_json(e)::text FROM events e UNION ALL SELECT to_json(s)::text FROM sessions s")
        )
        assert "CANARY" not in str(rows.all())


async def test_they_are_part_of_what_an_idempotency_key_stands_for(served: Served) -> None:
    parent = str(await succeeded(served))
    given: list[dict[str, Any]] = [{"context": {}}, {"config": {"tags": ["a"]}}, {"continues": parent}]
    for number, more in enumerate(given):
        key = f"key-{number}"
        first, again = await post(served, key, **more), await post(served, key, **more)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["session_id"] == again.json()["session_id"]
        assert (await post(served, key)).status_code == 422


def test_the_digest_of_what_older_versions_knew_is_theirs() -> None:
    """A key that was used before an upgrade stands for the same request after it."""
    assert NewSession(task="x").digest().hex() == "8ae74a5e310bed43b19f07bbc3e72fe5b84ffffed0bdc8782f51f046cd607224"


async def test_a_session_goes_on_from_the_end_of_another(served: Served) -> None:
    backends = served.gateway.backends
    parent = await succeeded(served, path="/tmp", base_commit="c0ffee")
    before = (await served.client.get(f"/sessions/{parent}/events")).json()
    answer = await post(served, continues=str(parent), input={"plan": ["more"]})
    assert answer.status_code == 201, answer.text
    session_id = SessionId(UUID(answer.json()["session_id"]))
    event = await first_event(served, session_id)
    assert event["continues"] == {
        "session_id": str(parent),
        "head": before["head"],
        "head_chain": before["head_chain"],
    }
    assert event["state"] == STATE
    assert event["input"] == {"task": "next", "plan": ["more"]}
    assert (await served.client.get(f"/sessions/{parent}/events")).json() == before

    listed = (await served.client.get("/sessions")).json()["sessions"]
    assert [(one["session_id"], one["continues"]) for one in listed] == [
        (str(session_id), str(parent)),
        (str(parent), None),
    ]
    row = await history.read_session(backends, session_id)
    assert (row.continues, row.base_commit, row.path) == (parent, "c0ffee", "/tmp")
    owed = await supersteps.read_owed(backends, session_id)
    assert owed is not None and owed.start_state == STATE
    *_, done = await control_events(served, "default")
    assert (done["action"], done["outcome"], done["target"]) == ("session.create", "done", str(session_id))
    assert done["details"] == {"continues": str(parent)}


async def test_its_log_needs_no_parent(served: Served) -> None:
    """Also where the state is too large for an event."""
    backends = served.gateway.backends
    large = STATE | {"text": "x" * 400_000}
    parent = await succeeded(served, large)
    session_id = SessionId(UUID((await post(served, continues=str(parent))).json()["session_id"]))
    assert set((await first_event(served, session_id))["state"]) == {"$artifact", "size"}
    async with tampering(served.gateway.engine) as db:
        for table, key in (
            ("steps", "session_id"),
            ("sessions", "session_id"),
            ("artifacts", "stream_id"),
            ("events", "stream_id"),
            ("streams", "stream_id"),
        ):
            await db.execute(text(f"DELETE FROM {table} WHERE {key} = :id"), {"id": parent})
    assert (await history.read_history(backends, session_id)).start_state == large
    owed = await supersteps.read_owed(backends, session_id)
    assert owed is not None and owed.start_state == large
    assert [fault async for fault in verify_stream(served.gateway.engine, session_id)] == []
    export = await served.client.get(f"/sessions/{session_id}/export")
    assert export.text.count('"content"') == 1, "the export has the state's artifact"


async def test_a_thread_of_turns(served: Served) -> None:
    first = await succeeded(served)
    second = SessionId(UUID((await post(served, continues=str(first))).json()["session_id"]))
    claim = await begun(served.gateway.backends, second)
    await attempts.complete_step(served.gateway.backends, claim, None, commit=None)
    await advance(served.gateway.backends, second, finished=True, state=b'{"plan":["two"]}')
    third = (await post(served, continues=str(second))).json()["session_id"]
    assert (await first_event(served, third))["state"] == {"plan": ["two"]}


async def test_what_cannot_be_continued_says_why(served: Served) -> None:
    backends = served.gateway.backends
    older = await succeeded(served, None)
    claim = await running(backends)
    cases = {
        await created(backends): "the session has not begun; only one that has succeeded can be continued",
        claim.session.session_id: "the session is running; only one",
        await waiting(backends): "the session is waiting; only one",
        await ended(backends, "failed"): "the session has failed; only one",
        await ended(backends, "cancelled"): "the session was cancelled; only one",
        older: "the session ended before final states were kept, so it cannot be continued",
    }
    for session_id, reason in cases.items():
        answer = await post(served, continues=str(session_id))
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith(reason)
        *_, refused = await control_events(served, "default")
        assert (refused["outcome"], refused["target"], refused["error"]) == ("refused", None, answer.json()["detail"])
        assert refused["details"] == {"continues": str(session_id)}


async def test_only_the_same_workflow_and_version_goes_on(served: Served) -> None:
    parent = str(await succeeded(served))
    async with transaction(served.gateway.engine) as db:
        await db.execute(
            text(
                "INSERT INTO workflows (name, version, langgraph_version, input_fields)"
                " VALUES ('other', '1', '1.2', '{}')"
            )
        )
    other = await post(served, continues=parent, workflow="other")
    assert (other.status_code, other.json()["detail"]) == (
        409,
        "the session is one of 'repair', and cannot be continued by 'other'",
    )
    assert (await post(served, continues=parent, workflow="repair")).status_code == 201
    async with transaction(served.gateway.engine) as db:
        await db.execute(
            text(
                "INSERT INTO workflows (name, version, langgraph_version, input_fields)"
                " VALUES ('repair', '2', '1.2', '{}')"
            )
        )
    newer = await post(served, continues=parent)
    assert newer.status_code == 409
    assert "made by version 1 of 'repair', and new ones are of version 2" in newer.json()["detail"]


async def test_a_workflow_that_is_left_out_is_the_parents(served: Served) -> None:
    async with tampering(served.gateway.engine) as db:
        await db.execute(text("UPDATE workflows SET name = 'other'"))
    made = await service.create_session(
        served.gateway.backends, NewSession(task="x", workflow="other"), principal=OWNER
    )
    session_id = made[0].session_id
    async with transaction(served.gateway.engine) as db:
        await db.execute(
            text("UPDATE sessions SET status = 'succeeded', final_state = '{}' WHERE session_id = :id"),
            {"id": session_id},
        )
    answer = await post(served, continues=str(session_id))
    assert answer.status_code == 201, answer.text
    view = (await served.client.get(f"/sessions/{answer.json()['session_id']}")).json()
    assert view["workflow"] == "other"


async def test_another_projects_session_does_not_exist(served: Served) -> None:
    parent = await succeeded(served, project="other")
    key = await make_key(served, "submit", project="web")
    for session_id in (parent, uuid4()):
        answer = await post(served, headers=key.headers, continues=str(session_id))
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no session {session_id}")
    # The owner sees it, and is told where it goes on.
    answer = await post(served, continues=str(parent))
    assert answer.status_code == 409
    assert answer.json()["detail"] == "the session belongs to the project 'other', and is continued there alone"
    assert (await post(served, continues=str(parent), project="other")).status_code == 201


async def test_what_goes_on_can_be_cancelled_and_retried_like_any_other(served: Served) -> None:
    backends = served.gateway.backends
    parent = await succeeded(served)
    session_id = SessionId(UUID((await post(served, continues=str(parent))).json()["session_id"]))
    owed = await supersteps.read_owed(backends, session_id)
    assert owed is not None
    await supersteps.fail_session(backends, owed, "a router raised")
    view = await control.retry_session(backends, session_id, principal=OWNER)
    assert (view.status, view.continues) == ("running", parent)
    owed = await supersteps.read_owed(backends, session_id)
    assert owed is not None and owed.start_state == STATE, "the first fold is tried again, on the same state"


async def test_a_disk_that_is_nearly_full_takes_no_new_session(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Early, so that those that run have room to end; what was accepted before is told as before."""
    async with serving(database_url, redis_url, home=tmp_path) as served:
        first = (await post(served, key="first")).json()["session_id"]
        async with another(served, min_free_bytes=2**60) as full:
            refused = await post(full, key="second")
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:stellwerk:problem:disk-full")
            assert refused.headers["retry-after"]
            assert all(word in refused.json()["detail"] for word in (str(tmp_path), "STELLWERK_MIN_FREE_BYTES", "MiB"))
            again = await post(full, key="first")
            assert (again.status_code, again.json()["session_id"]) == (200, first)
            assert [each["session_id"] for each in (await full.client.get("/sessions")).json()["sessions"]] == [first]
        async with another(served, min_free_bytes=2**60, home=tmp_path / "elsewhere") as remote:
            assert (await post(remote, key="second")).status_code == 201  # of another machine's disk it knows nothing
