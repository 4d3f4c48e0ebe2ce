"""Whole products: the events that one graph emits, seen by a client over HTTP, live and again when the run is over.

All of them run the same file, emitting.py; clients only count frames. Ours goes by the real path: worker, Postgres,
Redis, gateway. The others are what people would run in its place, each in an environment and a directory of its own.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tests.acceptance.faults.deployment import free_port
from tests.benchmarks import emitting
from tests.benchmarks.figure import RUNS, Figure, Goal, Sample
from tests.benchmarks.house import TOKEN, House, answers, end
from tests.benchmarks.peers import python_with
from tests.benchmarks.working import WORKER, WORKFLOWS, client_of

EVENTS = 1000
PATIENCE_SECONDS = 30.0
READ_BYTES = 1024 * 1024
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""The end of a response whose connection stays."""
LANGGRAPH = ("langgraph-cli[inmem]==0.4.40", "langgraph-api==0.16.7", "langgraph==1.2.22")
AEGRA = ("aegra-api==0.6.0", "langgraph==1.2.22", "sqlalchemy[asyncio]==2.1.9")
GRAPHS = {"emit": f"{emitting.__file__}:graph"}
QUIET = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true", "LANGSMITH_TRACING": "false"}
"""They reach nobody: no statistics, no look for a newer version, no traces."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        body = b"" if self.body is None else json.dumps(self.body).encode()
        headers = {"Host": "127.0.0.1", "Accept": "text/event-stream", **self.headers}
        if body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Product:
    """`begin` prepares a run and says how to start and see it; `again` says how to read the same run once more."""

    name: str
    port: int
    marker: bytes
    """What each frame of an emitted event has once."""
    begin: Callable[[], Awaitable[Request]]
    again: Callable[[Request, bytes], Request]
    """Is given the request that the run was seen by, and what was read first."""


@dataclass
class Seen:
    """What one client got, in seconds since it asked."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    at_first: int = 0
    """Events that came together with the first."""
    head: bytes = b""
    """What came up to the first event."""

    def take(self, events: int, read: bytes, now: float) -> None:
        if not self.count:
            self.head += read
            self.first, self.at_first = now, events
        if events:
            self.last = now
        self.count += events

    @property
    def live_rate(self) -> float:
        """Events a second between the first read and the last."""
        return (self.count - self.at_first) / (self.last - self.first)

    @property
    def rate(self) -> float:
        return self.count / self.last


async def see(product: Product, request: Request, began: float) -> Seen:
    """Reads until all events are there, or the response ends, or nothing comes any more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", product.port)
    writer.write(request.encoded())
    seen, rest = Seen(), b""
    with suppress(TimeoutError), closing(writer):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while seen.count < EVENTS and (read := await reader.read(READ_BYTES)):
                text = rest + read
                seen.take(text.count(product.marker), read, time.monotonic() - began)
                rest = text[-len(product.marker) + 1 :]  # half a marker at most
                if read.endswith(LAST_CHUNK):
                    break
    return seen


@asynccontextmanager
async def stellwerk(house: House) -> AsyncIterator[Product]:
    url = house.new_database()
    environment = house.environment(url, WORKFLOWS=WORKFLOWS)
    worker = await house.start(WORKER, environment=environment, name="worker")
    gateway, port = await house.start_gateway(url)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    new = {"task": "emit", "workflow": "emit", "input": {"events": EVENTS}}

    async with client_of(house, url) as client, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        await client.served("emit")

        async def begin() -> Request:
            created = (await http.post("/sessions", json=new, headers=headers)).raise_for_status().json()
            return Request("GET", f"{created['events']}?after=0", headers=headers)

        try:
            yield Product("Stellwerk", port, b"event: agent", begin, lambda request, head: request)
        finally:
            for process in (gateway, worker):
                await asyncio.to_thread(end, process)


@asynccontextmanager
async def langgraph(house: House) -> AsyncIterator[Product]:
    """LangGraph's development server; what it keeps is in memory."""
    program = (await asyncio.to_thread(python_with, *LANGGRAPH)).with_name("langgraph")
    port = free_port()
    command = (program, "dev", "--no-browser", "--no-reload", "--port", str(port))
    async with _protocol_server(house, "LangGraph's development server", "langgraph.json", command, port) as product:
        yield product


@asynccontextmanager
async def aegra(house: House) -> AsyncIterator[Product]:
    python, port = await asyncio.to_thread(python_with, *AEGRA), free_port()
    command = (python, "-m", "uvicorn", "aegra_api.main:app", "--port", str(port))
    url = house.new_database(migrated=False)
    offer_uuid_ossp(house, url)
    settings = {"DATABASE_URL": url, "LOG_LEVEL": "WARNING", "AUTH_TYPE": "noop"}
    async with _protocol_server(house, "Aegra", "aegra.json", command, port, **settings) as product:
        yield product


def offer_uuid_ossp(house: House, url: str) -> None:
    """The embedded Postgres has no contrib; of this extension Aegra uses one function, as the default of keys."""
    directory = house.directory / "contrib" / "extension"
    directory.mkdir(parents=True)
    (directory / "uuid-ossp.control").write_text("default_version = '1.1'\n")
    (directory / "uuid-ossp--1.1.sql").write_text(
        "CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()';\n"
    )
    with psycopg.connect(url, autocommit=True) as db:
        where = sql.Literal(f"$system:{directory.parent}")
        database = sql.Identifier(db.info.dbname)
        db.execute(sql.SQL("ALTER DATABASE {} SET extension_control_path = {}").format(database, where))


@asynccontextmanager
async def _protocol_server(
    house: House, name: str, configuration: str, command: Sequence[str | Path], port: int, **settings: str
) -> AsyncIterator[Product]:
    """A server of the Agent Protocol."""
    directory = house.directory / configuration.partition(".")[0]
    directory.mkdir()
    (directory / configuration).write_text(json.dumps({"dependencies": ["."], "graphs": GRAPHS}))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LANGSMITH", "LANGCHAIN", "PYTHON"))}
    process = await house.start(
        command, environment={**kept, **QUIET, **settings}, name=directory.name, directory=directory
    )
    await answers(f"http://127.0.0.1:{port}/docs")
    run = {
        "assistant_id": "emit", "input": {"events": EVENTS}, "stream_mode": ["custom"],
        "stream_resumable": True, "on_disconnect": "continue",
    }  # fmt: skip

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

        async def begin() -> Request:
            thread = (await http.post("/threads", json={})).raise_for_status().json()["thread_id"]
            return Request("POST", f"/threads/{thread}/runs/stream", body=run)

        def again(request: Request, head: bytes) -> Request:
            run_id = head.partition(b'"run_id":')[2].partition(b'"')[2].partition(b'"')[0].decode()
            path = request.path.replace("/runs/stream", f"/runs/{run_id}/stream")
            return Request("GET", path, headers={"Last-Event-ID": "-1"})

        try:
            yield Product(name, port, b"event: custom", begin, again)
        finally:
            await asyncio.to_thread(end, process)


@dataclass
class Found:
    """One value for each run."""

    first_ms: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    replay: list[float] = field(default_factory=list)


async def run(product: Product, found: Found) -> None:
    began = time.monotonic()
    request = await product.begin()
    live = await see(product, request, began)
    if live.count < EVENTS:
        raise RuntimeError(f"{product.name} sent {live.count} of {EVENTS} events")
    found.first_ms.append(1000 * live.first)
    found.live.append(live.live_rate)
    await asyncio.sleep(1.0)  # the run has ended
    replay = await see(product, product.again(request, live.head), time.monotonic())
    if replay.count == EVENTS:
        found.replay.append(replay.rate)
    else:
        sys.stderr.write(f"{product.name} replays {replay.count} of {EVENTS} events.\n")


async def bench(house: House) -> AsyncIterator[Figure]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(server(house)) for server in (stellwerk, langgraph, aegra)]
        for product in opened:
            await run(product, Found())  # whatever is made at the first run
        found = [Found() for _ in opened]
        for _ in range(RUNS):
            for product, values in zip(opened, found, strict=True):
                await run(product, values)
    ours = found[0]
    for product, theirs in zip(opened[1:], found[1:], strict=True):
        for what, unit, of_ours, of_theirs, goal, meaning in (
            (
                f"a run's {EVENTS:,} events, live", "events/s", ours.live, theirs.live,
                Goal("≥", 1.0), "from the first to the last at one client; ours are durable before",
            ),
            (
                "a run's first event", "ms", ours.first_ms, theirs.first_ms,
                Goal("≤", 1.0), "from asking for the run; an idle worker",
            ),
            (
                f"replay of a run's {EVENTS:,} events", "events/s", ours.replay, theirs.replay,
                Goal("≥", 1.0), "a finished run, from the request to the last event",
            ),
        ):  # fmt: skip
            if len(of_theirs) == RUNS:
                yield Figure(what, unit, Sample(tuple(of_ours)), product.name, Sample(tuple(of_theirs)), goal, meaning)
