"""Streams by bearer, cookie and ticket, on the fast path and the long way: one's own opens, nothing else exists."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from uuid import uuid4

import httpx
import pytest

from app.embedded.valkey import EmbeddedValkey
from app.gateway.streaming import fast_path
from app.principals.model import EVERY_SCOPE, OPERATORS, Scope
from tests.keyed import Keyed, cookie_of, make_key, showing, ticket_of
from tests.places import Place, inhabited
from tests.serving import Served, serving

SSE = {"Accept": "text/event-stream"}
FAST = ("/events?session_id={id}", "/sessions/{id}/events", "/sessions/{id}/events?after=0")
LONG = (
    "/events?session_id={id}&phase=",
    "/sessions/{id}/events?phase=",
    "/sessions/{id}/events?t=agent,session,control",
)


@dataclass(frozen=True, slots=True)
class Two:
    served: Served
    own: Place
    other: Place

    @property
    def key(self) -> Keyed:
        assert self.own.key is not None
        return self.own.key


@pytest.fixture(scope="module")
async def two(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[Two]:
    async with serving(shared_database_url, valkey.url) as served:
        yield Two(served, await inhabited(served, "numbat"), await inhabited(served, "quokka"))


@pytest.fixture
async def ways(two: Two) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """A client for each thing that may be shown; the ticket is for the session that runs."""
    ticket = await ticket_of(two.served, two.key, two.own.running)
    async with AsyncExitStack() as stack:
        bearer, cookie, with_ticket = [
            await stack.enter_async_context(showing(two.served, key)) for key in (two.key, None, None)
        ]
        cookie.headers.update(await cookie_of(two.served, two.key))
        with_ticket.event_hooks = {"request": [partial(add_ticket, ticket)]}
        yield {"bearer": bearer, "cookie": cookie, "ticket": with_ticket}


async def add_ticket(ticket: str, request: httpx.Request) -> None:
    request.url = request.url.copy_add_param("ticket", ticket)


async def opened(client: httpx.AsyncClient, address: str) -> tuple[int, str]:
    """The status, and the first line or the whole problem."""
    async with client.stream("GET", address, headers=SSE) as answer:
        if answer.status_code == 200:
            return 200, await anext(answer.aiter_lines())
        return answer.status_code, (await answer.aread()).decode()


def addresses(stream_id: object) -> Iterator[str]:
    for address in (*FAST, *LONG):
        yield address.format(id=stream_id)


async def test_each_way_shows_ones_own_and_nothing_else(two: Two, ways: dict[str, httpx.AsyncClient]) -> None:
    for (name, client), address in product(ways.items(), addresses("{id}")):
        status, first = await opened(client, address.format(id=two.own.running))
        assert (status, first) == (200, "id: 0"), (name, address)
        unknown = str(uuid4())
        nothing = await opened(client, address.format(id=unknown))
        assert nothing[0] == 404, (name, address)
        strange = [two.other.running, two.other.succeeded, two.other.operators]
        if name == "ticket":
            strange += [two.own.created, two.own.succeeded, two.own.operators]
        for stream_id in strange:
            found = await opened(client, address.format(id=stream_id))
            assert (found[0], found[1].replace(stream_id, unknown)) == nothing, (name, address, stream_id)


@pytest.mark.parametrize("scope", ["audit", "admin", "operate", "submit"])
async def test_the_operators_stream_is_there_for_audit_and_admin_alone(two: Two, scope: Scope) -> None:
    key = await make_key(two.served, scope, "read", project=two.own.project)
    wanted = 200 if scope in OPERATORS else 404
    session = f"/sessions/{two.own.operators}"
    async with showing(two.served, key) as bearer, showing(two.served, None) as cookie:
        cookie.headers.update(await cookie_of(two.served, key))
        for client, address in product((bearer, cookie), addresses(two.own.operators)):
            assert (await opened(client, address))[0] == wanted, address
        for address in (f"{session}/events", f"{session}/export"):
            assert (await bearer.get(address)).status_code == wanted, address
        # It is no session, whatever the scope is.
        assert (await bearer.get(session)).status_code == (await bearer.get(f"{session}/patch")).status_code == 404
        assert (await bearer.post(f"{session}/tickets")).status_code == 404
        for action in ("cancel", "retry"):
            assert (await bearer.post(f"{session}/{action}")).status_code == (404 if scope == "operate" else 403)


async def test_without_read_no_stream_opens(two: Two) -> None:
    key = await make_key(two.served, *sorted(EVERY_SCOPE - {"read"}), project=two.own.project)
    async with showing(two.served, key) as bearer, showing(two.served, None) as cookie:
        cookie.headers.update(await cookie_of(two.served, key))
        for client, address in product((bearer, cookie), addresses(two.own.running)):
            status, said = await opened(client, address)
            assert status == 403 and "it needs the scope read" in said, address
        # The operators' stream has an address of its own, for which audit or admin is enough.
        assert (await opened(bearer, "/operators/events"))[0] == 200
        assert (await bearer.post(f"/sessions/{two.own.running}/tickets")).status_code == 403


async def test_a_ticket_opens_its_sessions_events_and_nothing_else(
    two: Two, ways: dict[str, httpx.AsyncClient]
) -> None:
    client = ways["ticket"]
    page = await client.get(f"/sessions/{two.own.running}/events")
    assert page.status_code == 200 and page.json()["events"][0]["t"] == "session_event"
    for address in ("/sessions", f"/sessions/{two.own.running}", f"/sessions/{two.own.running}/export", "/approvals"):
        refused = await client.get(address)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:stellwerk:problem:missing-scope"), address
    for address in ("/events", "/metrics", "/keys", "/operators/events", "/openapi.json", "/dashboard/app.js"):
        assert (await client.get(address)).status_code == 403, address
    for address in (f"/sessions/{two.own.running}/cancel", f"/sessions/{two.own.running}/tickets", "/sessions"):
        assert (await client.post(address, json={"task": "x"} if address == "/sessions" else None)).status_code == 403
    async with showing(two.served, two.key) as bearer:  # who shows a key is not asked for a ticket
        own = f"/sessions/{two.own.running}/events"
        assert (await bearer.get(own, params={"ticket": "stwt_nonsense"})).status_code == 200


async def test_the_same_is_read_on_either_path(two: Two, ways: dict[str, httpx.AsyncClient]) -> None:
    """And the fast path is taken where it is meant to be."""
    taken = fast_path._asked
    bodies = set[str]()
    for address in addresses(two.own.succeeded):
        path, _, query = address.partition("?")
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        scope["headers"] = [(b"accept", b"text/event-stream")]
        assert (taken(scope) is not None) == (address in {a.format(id=two.own.succeeded) for a in FAST}), address
        if "t=" not in address:
            for name in ("bearer", "cookie"):
                answer = await ways[name].get(address, headers=SSE)
                bodies.add(answer.text.partition("retry: ")[2].partition("\n")[2])
    assert len(bodies) == 1


async def test_a_ticket_opens_its_stream_to_a_page_of_any_origin_and_lets_no_cookie_count(two: Two) -> None:
    ticket = await ticket_of(two.served, two.key, two.own.running)
    elsewhere = {"Origin": "https://elsewhere.example"}
    async with httpx.AsyncClient(base_url=two.served.url, headers=elsewhere) as page:
        page.cookies.update(await cookie_of(two.served, two.key))
        for address in addresses(two.own.running):
            for shown, status in ((f"ticket={ticket}", 200), ("ticket=stwt_wrong", 401), ("ticket=", 403), ("", 403)):
                accepts = {"Accept": "text/event-stream"}
                asked = f"{address}{'&' if '?' in address else '?'}{shown}"
                async with page.stream("GET", asked, headers=accepts) as answer:
                    assert answer.status_code == status, (address, shown)
                    allowed = answer.headers.get("access-control-allow-origin")
                    assert allowed == ("*" if status in {200, 401} else None)
        for method, address in (
            ("GET", "/sessions"),
            ("POST", f"/sessions/{two.own.running}/cancel"),
            ("GET", "/keys"),
        ):
            assert (await page.request(method, f"{address}?ticket={ticket}")).status_code == 403
    async with httpx.AsyncClient(base_url=two.served.url) as own:  # nor does a cookie help a wrong ticket
        own.cookies.update(await cookie_of(two.served, two.key))
        assert (await own.get(f"/events?session_id={two.own.running}&ticket=")).status_code == 401
