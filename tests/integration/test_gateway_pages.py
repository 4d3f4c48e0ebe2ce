"""Pages forward and backward, single events, the last ones that match, and small lists."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from app.events import read
from app.events.types import AnyStreamId
from tests.following import append, close, new_stream
from tests.populating import created, ended
from tests.roles import bump_epoch, tampering
from tests.serving import Served, serving

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def offsets_of(served: Served, stream_id: AnyStreamId, **query: Any) -> list[int]:
    answer = await served.client.get(f"/sessions/{stream_id}/events", params=query)
    assert answer.status_code == 200, answer.text
    return [event["offset"] for event in answer.json()["events"]]


async def test_tail_counts_what_matches(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """And looks at a bounded number of events at a time, however rare that is."""
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    for begin in range(0, 40, 10):
        await append(engine, stream_id, [begin], agent="rare")
        await append(engine, stream_id, range(begin + 1, begin + 10))
    assert await offsets_of(served, stream_id, tail=2) == [39, 40]
    for looked_at in (5000, 7, 1):
        monkeypatch.setattr(read, "LOOKED_AT", looked_at)
        assert await offsets_of(served, stream_id, tail=2, agent="rare") == [21, 31]
        assert await offsets_of(served, stream_id, tail=9, agent="rare") == [1, 11, 21, 31]
        assert await offsets_of(served, stream_id, tail=0, agent="rare") == []
        assert await offsets_of(served, stream_id, tail=3, t="session") == []
        assert await offsets_of(served, stream_id, tail=10**29, agent="rare", limit=2) == [1, 11]
    await close(engine, stream_id)
    stream = await served.client.get(f"/events?session_id={stream_id}&tail=2&agent=rare")
    assert re.findall(r"^id: (\d+)\nevent: agent", stream.text, re.MULTILINE) == ["21", "31"]
    assert (await served.client.get(f"/events?session_id={stream_id}&tail=2&t=model")).status_code == 204


async def test_pages_backward(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(9), agent="a")
    await append(engine, stream_id, range(9), agent="b")
    monkeypatch.setattr(read, "LOOKED_AT", 4)

    async def page(**query: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await served.client.get(f"/sessions/{stream_id}/events", params=query)).json()
        return found

    async def back(**query: Any) -> list[list[int]]:
        pages = [await page(**query)]
        while (previous := pages[-1]["previous"]) is not None:
            only = {name: value for name, value in query.items() if name in {"agent", "limit"}}
            pages.append(await page(before=previous, **only))
        return [[event["offset"] for event in page["events"]] for page in pages]

    assert await back(before=19, limit=8) == [[*range(11, 19)], [*range(3, 11)], [1, 2]]
    assert await back(tail=3, limit=10) == [[16, 17, 18], [*range(6, 16)], [*range(1, 6)]]
    assert await back(before=19, agent="a", limit=6) == [[*range(4, 10)], [1, 2, 3]]
    assert await back(before=3, limit=2) == [[1, 2]]
    assert await back(before=1) == [[]]
    middle = await page(before=12, limit=2)
    assert [event["offset"] for event in middle["events"]] == [10, 11]
    assert (middle["previous"], middle["next"]) == ("10", "11")
    assert [event["offset"] for event in (await page(after=middle["next"], limit=2))["events"]] == [12, 13]
    assert (await page(after=0, limit=5))["previous"] is None
    assert (await page(after=5, limit=5))["previous"] == "6"
    for query in ({"before": "9", "after": "1"}, {"before": "9", "tail": "1"}, {"before": "x"}):
        assert (await page(**query))["status"] == 400
    for beyond in ("0", "20", "2.5"):
        problem = await page(before=beyond)
        assert (problem["status"], problem["cursor"]) == (410, "19")
    stream = await served.client.get(f"/sessions/{stream_id}/events?before=3", headers=SSE)
    assert (stream.status_code, stream.json()["type"]) == (400, "urn:stellwerk:problem:bad-query")


async def test_single_events(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    path = f"/sessions/{session_id}/events"
    pages = (await served.client.get(path)).text
    for event in (await served.client.get(path)).json()["events"]:
        one = await served.client.get(f"{path}/{event['offset']}")
        assert one.json() == event and one.text in pages
    head = event["offset"]
    for offset, status, told in (
        ("0", 404, "there is no event 0"),
        (head + 1, 404, f"the last one is {head}"),
        ("-1", 404, "there is no event"),
        ("x", 400, "'x'"),
        ("2.1", 410, "another event in epoch 1"),
        (f"{session_id}", 400, "which is no integer"),
    ):
        answer = await served.client.get(f"{path}/{offset}")
        assert answer.status_code == status and told in answer.json()["detail"], answer.text
    assert (await served.client.get(f"/sessions/{uuid4()}/events/1")).status_code == 404


async def test_cursors_of_another_life_read_neither_backward_nor_one(served: Served) -> None:
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(3))
    epoch = await bump_epoch(engine, "restored")
    await append(engine, stream_id, range(2))
    path = f"/sessions/{stream_id}/events"
    assert await offsets_of(served, stream_id, before="3") == [1, 2]  # what stands at 3 survived
    assert await offsets_of(served, stream_id, before=f"{epoch}.5", limit=2) == [3, 4]
    assert (await served.client.get(path, params={"before": f"{epoch}.5", "limit": 2})).json()[
        "previous"
    ] == f"{epoch}.3"
    for before in ("4", "6"):
        answer = await served.client.get(path, params={"before": before})
        assert (answer.status_code, answer.json()["cursor"]) == (410, f"{epoch}.6")
    for one, status in (("3", 200), (f"{epoch}.3", 200), (f"{epoch}.4", 200), ("4", 410), ("6", 404)):
        assert (await served.client.get(f"{path}/{one}")).status_code == status, one


async def test_an_expired_event_is_gone(served: Served) -> None:
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    await append(engine, stream_id, range(4))
    async with tampering(engine) as db:
        await db.exec_driver_sql('DELETE FROM events WHERE "offset" < 3')
        await db.exec_driver_sql("UPDATE streams SET earliest = 3")
    gone = await served.client.get(f"/sessions/{stream_id}/events/2")
    assert (gone.status_code, gone.json()["earliest"], gone.json()["cursor"]) == (410, 3, "2")
    assert await offsets_of(served, stream_id, before="5") == [3, 4]
    assert (await served.client.get(f"/sessions/{stream_id}/events?before=2")).status_code == 410


async def test_lists_are_small(served: Served) -> None:
    backends = served.gateway.backends
    long = "ö" * 50_000
    session_id, short = await created(backends, long), await created(backends, "y" * 300)
    done = await ended(backends)
    failed = await ended(backends, "failed")
    page = (await served.client.get("/sessions")).json()["sessions"]
    by_id = {view["session_id"]: view for view in page}
    assert (by_id[str(session_id)]["task"], by_id[str(session_id)]["task_is_cut"]) == ("ö" * 300, True)
    assert (by_id[str(short)]["task"], by_id[str(short)]["task_is_cut"]) == ("y" * 300, False)
    assert all("result" not in view and "steps" not in view for view in page)
    assert (await served.client.get(f"/sessions/{session_id}")).json()["task"] == long
    assert (await served.client.get(f"/sessions/{done}")).json()["result"]
    await served.client.post(f"/sessions/{short}/cancel", json={"reason": "z" * 9000})
    for status in (["succeeded,failed"], ["succeeded", "failed"], [" failed , succeeded"]):
        page = (await served.client.get("/sessions", params={"status": status})).json()["sessions"]
        assert {view["session_id"] for view in page} == {str(done), str(failed)}
    (cancelled,) = (await served.client.get("/sessions?status=cancelled")).json()["sessions"]
    assert (cancelled["reason"], cancelled["reason_is_cut"]) == ("z" * 300, True)
