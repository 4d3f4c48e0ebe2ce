"""The stock clients, each following one address until it stops by itself; what each hands on is kept."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from urllib.parse import urlsplit

import httpx
from httpx_sse import aconnect_sse
from playwright.async_api import Browser

from tests.serving import BEARER, TOKEN

NODE_CLIENTS = ("eventsource", "eventsource-client", "@microsoft/fetch-event-source", "event-source-polyfill")
CLIENTS = (*NODE_CLIENTS, "httpx-sse", "curl", "chromium")
HAVE_NO_204 = {"event-source-polyfill", "@microsoft/fetch-event-source"}
"""They take it for a failure and come back for ever, so they ask for `end` instead."""
HERE = Path(__file__).parent
PATIENCE_SECONDS = 60
_IN_A_PAGE = """
address => new Promise(resolve => {
  const source = new EventSource(address), heard = [];
  const over = () => { source.close(); Promise.all(heard).then(() => resolve()); };
  for (const kind of ["message", "stream", "agent", "session", "reset", "away", "cursor", "heartbeat", "end"])
    source.addEventListener(kind, ({ data, lastEventId }) => {
      heard.push(hear(kind, lastEventId, data));
      if (kind === "end") over();
    });
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) over(); });
})
"""


@dataclass(frozen=True, slots=True)
class Message:
    kind: str
    id: str
    data: str

    @property
    def is_event(self) -> bool:
        return self.data.startswith('{"offset":')


@dataclass
class Heard:
    """What a client's application got. Playwright sets attributes on what it calls, so there are no slots."""

    messages: list[Message] = field(default_factory=list)

    def hear(self, kind: str, message_id: str, data: str) -> None:
        self.messages.append(Message(kind, message_id, data))

    def hear_line(self, line: bytes) -> None:
        self.hear(*line.decode().rstrip("\n").split("\t"))

    @property
    def events(self) -> list[str]:
        return [message.data for message in self.messages if message.is_event]

    @property
    def kinds(self) -> list[str]:
        return [message.kind for message in self.messages]


@dataclass(frozen=True, slots=True)
class Stock:
    """What the clients need: their packages, programs, and a browser that is signed in."""

    packages: Path
    node: str
    curl: str
    browser: Browser
    gateway: str
    """Where a browser signs in: its lines are for what is tried."""

    async def follow(self, client: str, address: str, heard: Heard, authority: Path | None = None) -> None:
        """Returns when the client has stopped by itself. `authority` is the certificate that it trusts."""
        if client in HAVE_NO_204:
            address += "&on_end=200"
        match client:
            case "httpx-sse":
                await _with_httpx_sse(address, heard, authority)
            case "chromium":
                await self._in_chromium(address, heard)
            case "curl":
                options = ["--cacert", str(authority)] if authority else []
                await self._run(["sh", str(HERE / "follow.sh"), address, TOKEN, *options], heard)
            case _:
                trusted = {"NODE_EXTRA_CA_CERTS": str(authority)} if authority else {}
                await self._run([self.node, str(self.packages / "follow.mjs"), client, address, TOKEN], heard, trusted)

    async def _run(self, command: list[str], heard: Heard, more: Mapping[str, str] | None = None) -> None:
        path = f"{Path(self.curl).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": path} | dict(more or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                heard.hear_line(line)
            assert await process.wait() == 0, command
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)  # the shell's curl, too, would keep the pipe open
            await process.wait()

    async def _in_chromium(self, address: str, heard: Heard) -> None:
        parts = urlsplit(address)
        async with await self.browser.new_context(ignore_https_errors=True) as context:
            signed_in = await context.request.post(
                f"{self.gateway}/login",
                headers={"Host": parts.netloc},  # a gateway's cookie has the port in its name
                form={"key": TOKEN},
                max_redirects=0,
            )
            assert signed_in.status == 303
            page = await context.new_page()
            await page.route("**/empty", lambda route: route.fulfill(content_type="text/html", body=""))
            await page.expose_function("hear", heard.hear)
            await page.goto(f"{parts.scheme}://{parts.netloc}/empty")
            await page.evaluate(_IN_A_PAGE, address)


async def _with_httpx_sse(address: str, heard: Heard, authority: Path | None) -> None:
    """What its users write around it: a loop with the last id, until `end` or 204."""
    trusted = ssl.create_default_context(cafile=authority) if authority else False
    last, is_over = "", False
    async with httpx.AsyncClient(headers=BEARER, verify=trusted, timeout=60, trust_env=False) as client:
        while not is_over:
            with suppress(httpx.TransportError):
                headers = {"Last-Event-ID": last} if last else {}
                async with aconnect_sse(client, "GET", address, headers=headers) as source:
                    if source.response.status_code == 204:
                        break
                    async for message in source.aiter_sse():
                        heard.hear(message.event, message.id, message.data)
                        last, is_over = message.id or last, message.event == "end"
            await asyncio.sleep(0 if is_over else 0.05)


@asynccontextmanager
async def following(
    stock: Stock, address_of: Callable[[str], str], authority: Path | None = None
) -> AsyncIterator[dict[str, Heard]]:
    """All clients at once, each at its address. At the end each has stopped by itself, or the test fails."""
    heard = {client: Heard() for client in CLIENTS}
    async with asyncio.TaskGroup() as clients:  # one that fails ends the others and the test
        tasks = {
            client: clients.create_task(stock.follow(client, address_of(client), heard[client], authority))
            for client in CLIENTS
        }
        yield heard
        _, stuck = await asyncio.wait(tasks.values(), timeout=PATIENCE_SECONDS)
        assert not stuck, {client: heard[client].messages[-3:] for client, task in tasks.items() if task in stuck}
