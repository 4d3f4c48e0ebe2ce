"""Running servers of event streams: ours by the real path, the others by the shortest there is."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psutil

from app.database import create_engine
from app.events import encoding
from app.events.encoding import Recorded
from app.events.group_commit import GroupCommit
from app.events.push import Push
from app.events.seals import SealKeys
from app.events.types import StreamId
from tests.acceptance.faults.deployment import free_port
from tests.benchmarks.house import ROOT, START_SECONDS, TOKEN, House, end
from tests.following import new_stream, progress

EVENT_BYTES = 180
"""Padding that makes an event's JSON about 300 bytes long."""
INLINE_BYTES = 64 * 1024
HEARTBEAT_SECONDS = "600"
"""A comment looks like a frame to who only counts; this one comes after the bench."""
NGINX = Path(__file__).with_name("nchan.conf")
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


@dataclass(frozen=True, slots=True)
class Server:
    """`requests` has one for each of its streams; `publish` starts sending so many events to each of them.

    `returning` is the request of a client that has all events of the first stream but so many.
    """

    name: str
    process: psutil.Popen
    port: int
    requests: tuple[str, ...]
    publish: Callable[[int], None]
    returning: Callable[[int], str]

    def requests_of(self, clients: int) -> list[str]:
        return [self.requests[number % len(self.requests)] for number in range(clients)]


def get(path: str) -> str:
    head = {"Host": "127.0.0.1", "Accept": "text/event-stream", "Authorization": f"Bearer {TOKEN}"}
    return f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items()) + "\r\n"


@asynccontextmanager
async def gateway(house: House, streams: int = 1) -> AsyncIterator[Server]:
    """Events go by group commit into Postgres, then by push over Redis into the gateway."""
    url = house.new_database()
    engine = create_engine(url)
    ids = [await new_stream(engine) for _ in range(streams)]
    await engine.dispose()
    process, port = await house.start_gateway(url, HEARTBEAT=HEARTBEAT_SECONDS)
    push = Push(house.valkey.url, SealKeys(engine), inline_bytes=INLINE_BYTES)
    commit = GroupCommit(url, push.publish)
    items = [encoding.item(stream_id, progress(1, size=EVENT_BYTES)) for stream_id in ids]
    appending = set[asyncio.Task[Recorded]]()
    head = 0

    def publish(events: int) -> None:
        nonlocal head
        head += events
        for _ in range(events):
            for item in items:
                task = asyncio.create_task(commit.append(item))
                appending.add(task)
                task.add_done_callback(appending.discard)

    try:
        paths = [f"/events?session_id={stream_id}" for stream_id in ids]
        requests = tuple(get(f"{path}&after=latest") for path in paths)
        yield Server(
            "Stellwerk", process, port, requests, publish, lambda events: get(f"{paths[0]}&after={head - events}")
        )
    finally:
        await asyncio.gather(*appending)
        await commit.close()
        await push.close()
        end(process)


@asynccontextmanager
async def cursors(house: House) -> AsyncIterator[Server]:
    """Ready frames go straight into Redis, and are relayed."""
    channel = str(uuid4())
    process, port = await _python(house, "cursors", CHANNEL=channel)
    numbers = count(1)
    async with Line.to(house.valkey.url) as line:

        def publish(events: int) -> None:
            for _ in range(events):
                line.send(redis_command("PUBLISH", channel, recorded(next(numbers)).frame()))

        try:
            yield Server(
                "a bare ASGI cursor server", process, port, (get("/"),), publish, lambda events: get(f"/{events}")
            )
        finally:
            end(process)


@asynccontextmanager
async def naive(house: House, streams: int) -> AsyncIterator[Server]:
    """The JSON goes straight into Redis; the server makes frames of it, one by one, client by client."""
    process, port = await _python(house, "naive")
    channels = [str(uuid4()) for _ in range(streams)]
    numbers = count(1)
    async with Line.to(house.valkey.url) as line:

        def publish(events: int) -> None:
            for _ in range(events):
                data = recorded(next(numbers)).wire().encode()
                for channel in channels:
                    line.send(redis_command("PUBLISH", channel, data))

        try:
            requests = tuple(get(f"/events?channel={channel}") for channel in channels)
            name = "sse-starlette, a dict a frame"
            yield Server(name, process, port, requests, publish, lambda events: requests[0])  # it keeps no events
        finally:
            end(process)


@asynccontextmanager
async def nchan(house: House, keep: int = 1000) -> AsyncIterator[Server | None]:
    """Where Debian's nginx with nchan is not installed: None, and a sentence on standard error.

    `keep` is how many events it keeps.
    """
    nginx = shutil.which("nginx")
    if nginx is None or not NCHAN.exists():
        sys.stderr.write("nchan is left out: `apt-get install nginx-light libnginx-mod-nchan` brings it.\n")
        yield None
        return
    port = free_port()
    directory = house.directory / "nginx"
    directory.mkdir(exist_ok=True)
    configuration = directory / "nginx.conf"
    settings = {"@DIRECTORY@": str(directory), "@PORT@": str(port), "@MODULE@": str(NCHAN), "@KEEP@": str(keep)}
    text = NGINX.read_text()
    for name, value in settings.items():
        text = text.replace(name, value)
    configuration.write_text(text)
    command: list[str | Path] = [nginx, "-p", directory, "-c", configuration]
    process = await house.start(command, environment=dict(os.environ), name="nginx")
    await listens(port)
    channel = str(uuid4())
    numbers = count(1)
    async with Line.to(f"http://127.0.0.1:{port}") as line:

        def publish(events: int) -> None:
            for _ in range(events):
                data = recorded(next(numbers)).wire().encode()
                line.send(_post(f"/publish?channel={channel}", data))

        try:
            live, kept = get(f"/live?channel={channel}"), get(f"/all?channel={channel}")
            yield Server("nginx + nchan", process, port, (live,), publish, lambda events: kept)
        finally:
            end(process)


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _python(house: House, module: str, **environment: str) -> tuple[psutil.Popen, int]:
    port = free_port()
    process = await house.start(
        [sys.executable, "-m", f"tests.benchmarks.servers.{module}"],
        environment={**os.environ, "PORT": str(port), "REDIS_URL": house.valkey.url, "PYTHONPATH": str(ROOT)}
        | environment,
        name=module,
    )
    await listens(port)
    return process, port


class Line:
    """A connection whose answers are read and thrown away."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.send = writer.write

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["Line"]:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        if address.password:
            writer.write(redis_command("AUTH", address.password))
        draining = asyncio.create_task(_drain(reader))
        try:
            yield cls(writer)
        finally:
            draining.cancel()
            writer.close()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def redis_command(*words: str | bytes) -> bytes:
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def recorded(offset: int) -> Recorded:
    """An event as ours has it in the log, for those that have no log: the same bytes for everybody."""
    item = encoding.item(_STREAM, progress(1, size=EVENT_BYTES))
    return Recorded(item.stream_id, item.kind, offset, datetime.now(UTC), item.t, item.agent, item.phase, item.data)


_STREAM = StreamId(UUID(int=1))


async def listens(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
