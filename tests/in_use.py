"""A key in use at several gateways at once: streams that are open, and a storm of requests, until it is refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from tests.keyed import Keyed, cookie_of, showing, stream, ticket_of
from tests.serving import Served
from tests.wire import until_cut

CLIENTS = 3
"""Of each gateway, that ask one request after the other."""
REFUSALS = 20
"""So often a client of the storm is refused before it stops."""
BOUND_SECONDS = 10.0
PATIENCE_SECONDS = 20.0


class Answer(NamedTuple):
    gateway: int
    begun: float
    status: int


@dataclass
class InUse:
    """When its streams ended, and what the storm was answered. Times are the event loop's."""

    key: Keyed
    session_id: object
    answers: list[Answer] = field(default_factory=list)
    streams: dict[str, asyncio.Task[float]] = field(default_factory=dict)
    storm: list[asyncio.Task[None]] = field(default_factory=list)

    async def ended(self, since: float, *, let_in_until: float = 0.0) -> None:
        """Checks that nothing gets through later than the bound after `since`, and all of it before `let_in_until`.

        A gateway that has refused once goes on refusing.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            ends = dict(zip(self.streams, await asyncio.gather(*self.streams.values()), strict=True))
            await asyncio.gather(*self.storm)
        late = {name: end - since for name, end in ends.items() if end - since > BOUND_SECONDS}
        assert not late, late
        assert {answer.status for answer in self.answers} == {200, 401}
        for gateway in {answer.gateway for answer in self.answers}:
            of_gateway = sorted(answer for answer in self.answers if answer.gateway == gateway)
            first = next(answer.begun for answer in of_gateway if answer.status == 401)
            assert first - since < BOUND_SECONDS
            assert first >= let_in_until
            let_in_later = [answer for answer in of_gateway if answer.status == 200 and answer.begun > first]
            assert len(let_in_later) <= CLIENTS, "some were under way; what comes after them must be refused"
            assert not [answer for answer in let_in_later if answer.begun - since > BOUND_SECONDS]


@asynccontextmanager
async def in_use(gateways: Sequence[Served], key: Keyed, session_id: object) -> AsyncIterator[InUse]:
    """The session must be open, and the key have `read` and `audit`. All streams are open when it begins."""
    use = InUse(key, session_id)
    ticket = await ticket_of(gateways[0], key, session_id)
    cookie = await cookie_of(gateways[0], key)
    async with AsyncExitStack() as stack:
        openings = []
        for number, served in enumerate(gateways):
            bearer = await stack.enter_async_context(showing(served, key))
            other = await stack.enter_async_context(showing(served, None))
            # A cookie's name has its gateway's port in it.
            name = f"stellwerk_{httpx.URL(served.url).port}"
            carried = {"Cookie": f"{name}={cookie['Cookie'].partition('=')[2]}"}
            ways = {
                "fast": (bearer, f"/events?session_id={session_id}", None),
                "long": (bearer, f"/events?session_id={session_id}&phase=", None),
                "cookie": (other, f"/sessions/{session_id}/events", carried),
                "ticket": (other, f"/events?session_id={session_id}&ticket={ticket}", None),
                "operators": (bearer, "/operators/events?after=latest", None),
                "feed": (bearer, "/events?after=latest", None),
            }
            for way, (client, address, headers) in ways.items():
                is_open = asyncio.Event()
                use.streams[f"{way} at {number}"] = asyncio.create_task(_follow(client, address, headers, is_open))
                openings.append(is_open)
            for _ in range(CLIENTS):
                use.storm.append(asyncio.create_task(_storm(bearer, number, use.answers)))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(is_open.wait() for is_open in openings))
            yield use
        finally:
            for task in (*use.streams.values(), *use.storm):
                task.cancel()
            await asyncio.gather(*use.streams.values(), *use.storm, return_exceptions=True)


async def _follow(
    client: httpx.AsyncClient, address: str, headers: dict[str, str] | None, is_open: asyncio.Event
) -> float:
    """When it was sent away; the session goes on."""
    async with stream(client, address, headers) as events:
        is_open.set()
        assert (await until_cut(events))[-1].event == "away"
    return asyncio.get_running_loop().time()


async def _storm(client: httpx.AsyncClient, gateway: int, answers: list[Answer]) -> None:
    refused = 0
    while refused < REFUSALS:
        begun = asyncio.get_running_loop().time()
        answer = await client.get("/approvals")
        answers.append(Answer(gateway, begun, answer.status_code))
        refused += answer.status_code == 401
