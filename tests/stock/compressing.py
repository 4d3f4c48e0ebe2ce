"""A proxy that compresses what may be transformed, and so holds it back until it is whole; as some companies' do."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx


@asynccontextmanager
async def compressing_proxy(upstream: str) -> AsyncIterator[str]:
    """Yields its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(httpx.TransportError, ConnectionError, asyncio.IncompleteReadError):
            await _answer(upstream, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _answer(upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    passed = {name: value for name, value in sent.items() if name not in ("connection", "accept-encoding")}
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream(method, upstream + target, headers=passed) as answer,
    ):
        head = [f"HTTP/1.1 {answer.status_code} As Told", "Connection: close"]
        for name in ("content-type", "cache-control"):
            head += [f"{name}: {answer.headers[name]}"] if name in answer.headers else []
        if "no-transform" in answer.headers.get("cache-control", "") or answer.status_code == 204:
            writer.write("\r\n".join([*head, "", ""]).encode())  # the body goes on to the end of the connection
            async for part in answer.aiter_raw():
                writer.write(part)
                await writer.drain()
        else:
            body = gzip.compress(await answer.aread())
            head += ["Content-Encoding: gzip", f"Content-Length: {len(body)}"]
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
