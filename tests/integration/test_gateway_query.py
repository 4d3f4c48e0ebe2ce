"""What an endpoint does not take is refused with what there is; what it takes means what it says."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from app.embedded.valkey import EmbeddedValkey
from tests.following import append, new_stream
from tests.populating import ended, running
from tests.serving import BEARER, Served, serving

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
async def served(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[Served]:
    async with serving(shared_database_url, valkey.url) as served:
        yield served


def refused(answer: httpx.Response, kind: str = "bad-query") -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["type"]) == (400, f"urn:stellwerk:problem:{kind}"), answer.text
    return str(answer.json()["detail"])


async def test_every_endpoint_refuses_what_it_does_not_take(served: Served) -> None:
    """All but the page itself, to which others' links lead, and its forms."""
    claim = await running(served.gateway.backends)
    places = {"session_id": claim.session.session_id, "key_id": uuid4(), "step": 1, "offset": 1, "digest": "0" * 64}
    routes = {
        (method.upper(), path) for path, methods in served.app.openapi()["paths"].items() for method in methods
    } | {("HEAD", "/events"), ("HEAD", "/operators/events"), ("GET", "/openapi.json"), ("GET", "/dashboard/app.js")}
    assert len(routes) > 20
    for method, path in routes:
        is_report = (method, path) == ("POST", "/sessions/{session_id}/events")
        headers = {"Authorization": f"Bearer {claim.token}"} if is_report else BEARER
        answer = await served.client.request(method, f"{path.format(**places)}?frmo=9", headers=headers)
        assert answer.status_code == 400, (method, path, answer.text)
        assert method == "HEAD" or f"'frmo' is no parameter of {method} " in refused(answer)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "/sessions/{}/events?from=9",
            "what there is: after, agent, before, epoch, follow, heartbeat, lastEventId, limit",
        ),
        ("/events?session_id={}&t=bogus", "there is no kind of event (t) 'bogus'; there is agent, approval"),
        ("/events?session_id={}&t=agent,agents", "'agents'"),
        ("/events?session_id={}&phase=done", "there is no phase 'done'; there is decision, progress, result, think"),
        ("/events?t=bogus", "'bogus'"),
        ("/events?status=done", "there is no status 'done'; there is approved"),
        ("/events?session_id={}&after=1&after=2", "'after' was given 2 times; give it once"),
        ("/events?session_id={}&tail=1&tail=1", "'tail' was given 2 times"),
        ("/events?session_id={}&lastEventId=1&lastEventId=1", "'lastEventId' was given 2 times"),
        ("/events?session_id={}&project=web", "'project' filters the feed; leave session_id out"),
        ("/events?session_id={}&limit=3", "'limit' is for pages"),
        ("/events?epoch=2", "'epoch' is of a session's stream"),
        ("/events?session_id={}&agent=x%5C", "ends with a backslash"),
        ("/sessions?status=nope", "there is no status of a session 'nope'; there is cancelled, created"),
        ("/sessions?Status=failed", "'Status' is no parameter of GET /sessions"),
        ("/readyz?verbose", "'verbose' is no parameter of GET /readyz; it takes none"),
    ],
)
async def test_the_refusal_says_what_there_is(served: Served, address: str, told: str) -> None:
    session_id = await ended(served.gateway.backends)
    assert told in refused(await served.client.get(address.format(session_id), headers=SSE))


async def test_who_may_not_look_is_not_told_what_there_is(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as stranger:
        for path in ("/sessions?frmo=1", f"/events?session_id={uuid4()}&frmo=1", "/keys?x", "/openapi.json?x"):
            assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize("after", ["41 ", " 41", "4 1", "+41", "４１", "41,42", "1-2-3"])
async def test_a_cursor_that_is_nearly_one_is_said_to_be_none(served: Served, after: str) -> None:
    session_id = await ended(served.gateway.backends)
    for name, headers in (("after", {}), ("after", SSE), ("lastEventId", SSE), ("tail", {}), ("before", {})):
        query = {name: after}
        answer = await served.client.get(f"/sessions/{session_id}/events", params=query, headers=headers)
        assert repr(after) in refused(answer, "bad-cursor")


async def test_a_time_whose_plus_arrived_as_a_space_is_understood(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    path = f"/sessions/{session_id}/events"
    for since, found in (
        ("2001-01-01T00:00:00+01:00", True),
        ("2001-01-01T00:00:00.5+01:00", True),
        ("2001-01-01+00:00+01:00", True),
        ("2999-01-01T00:00:00+01:00", False),
    ):
        page = (await served.client.get(f"{path}?since={since}")).json()
        assert bool(page["events"]) == found, page
    for malformed in ("2001-01-01T00:00:00+", "2001-01-01+00:00", "yesterday+01:00"):
        assert (await served.client.get(f"{path}?since={malformed}")).status_code == 422


async def test_a_get_with_a_body_is_refused(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    for path in ("/sessions", f"/events?session_id={session_id}", "/healthz"):
        for content in (b'{"status": "failed"}', _chunks()):
            answer = await served.client.request("GET", path, content=content)
            assert "a GET has no body" in refused(answer, "bad-request")
        assert (await served.client.request("GET", path, headers={"Content-Length": "0"})).status_code in {200, 204}


async def _chunks() -> AsyncIterator[bytes]:
    yield b"{}"


async def test_polyfills_resume_by_a_parameter(served: Served) -> None:
    session_id = await ended(served.gateway.backends)
    page = f"/sessions/{session_id}/events"

    async def first(path: str, **headers: str) -> str:
        answer = await served.client.get(path, headers=SSE | headers)
        return answer.text.partition("\n")[0]

    for path in (f"/events?session_id={session_id}", f"{page}?"):
        assert await first(f"{path}&lastEventId=3") == "id: 3"
        assert await first(f"{path}&after=0&lastEventId=3") == "id: 3"
        assert await first(f"{path}&lastEventId=3", **{"Last-Event-ID": "4"}) == "id: 4"
        assert await first(f"{path}&lastEventId=") == "id: 0"
        assert await first(f"{path}&&lastEventId=3&t=session") == "id: 3"
    assert (await served.client.get(f"{page}?lastEventId=3")).json()["events"][0]["offset"] == 4


async def test_names_with_commas(served: Served) -> None:
    engine = served.gateway.engine
    stream_id = await new_stream(engine)
    for number, agent in enumerate(("smith, the elder", "smith", "the elder", "a\\b", "other"), 1):
        await append(engine, stream_id, [number], agent=agent)

    async def offsets(*agents: str) -> list[int]:
        answer = await served.client.get(f"/sessions/{stream_id}/events", params={"agent": list(agents)})
        return [event["offset"] for event in answer.json()["events"]]

    assert await offsets("smith, the elder") == [2, 3]
    assert await offsets("smith\\, the elder") == [1]
    assert await offsets("smith\\, the elder,other", "a\\\\b") == [1, 4, 5]


async def test_numbers_that_no_double_holds(served: Served) -> None:
    claim = await running(served.gateway.backends)
    headers = {"Authorization": f"Bearer {claim.token}", "Content-Type": "application/json"}
    path = f"/sessions/{claim.session.session_id}/events"
    for number, status in (("9007199254740992", 201), ("9007199254740993", 422), ("1e400", 422), ("9" * 400, 422)):
        body = f'{{"message": "x", "total": null, "progress": {number}}}'
        answer = await served.client.post(path, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert status == 201 or "body.progress" in answer.json()["detail"]
