"""The clients of app/gateway/README.md, as they stand there, over lines that are cut and a database that is restored.

What they print is compared byte for byte with what the log holds: nothing may be missing, doubled or changed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest

from app.embedded.postgres import EmbeddedPostgres
from app.gateway.streaming import frames
from app.progress import SessionId
from app.sessions import attempts
from tests.conftest import execute, url_of
from tests.cutting import Cut, CuttingProxy, Lose, Say, cutting_proxy
from tests.following import append, close, engine_of, logged, new_stream, quick
from tests.guide import clients
from tests.populating import advance, begun, report
from tests.roles import bump_epoch
from tests.serving import TOKEN, Served, serving, serving_app
from tests.surroundings import optional_program

MAX_LINES = 25
LANGUAGES = ("python", "js", "sh")
TALK = "📡 half way\r\n\r\ndata: {}\n\nid: 999\n\n \u2028 \u0085 ✓"
"""What a client that takes text for lines, or bytes for characters, does not survive."""
OVERLOAD_SECONDS = 3.2
"""More than what the clients wait before anything was said."""
OVERLOAD = Say(200, b'event: away\nretry: 3200\ndata: {"reason":"too many readers","cursor":null}\n\n')
LARGE = "✓" * 20_000
"""Comes in many parts, cut within characters."""
REPORTS = 20
LAST = 3 + 2 + 2 * REPORTS + 3
"""The offset of the last event: creation and start, the claim and its report, reports, the end."""


@pytest.fixture(params=LANGUAGES)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command, but for its arguments."""
    language: str = request.param
    file = tmp_path / f"follow.{'mjs' if language == 'js' else language}"
    file.write_text(clients()[language], encoding="utf-8")
    match language:
        case "python":
            return [sys.executable, "-I", "-S", str(file)]  # without site-packages
        case "js":
            return [installed("node", package="nodejs"), str(file)]
        case _:
            (tmp_path / "curl").symlink_to(installed("curl", package="curl"))
            return ["env", f"PATH={tmp_path}:{os.environ['PATH']}", "sh", str(file)]


def installed(name: str, *, package: str) -> str:
    found = optional_program(name)
    if found is None:
        pytest.skip(f"{name} is not installed: Debian's package {package} brings it")
    return found


@pytest.fixture(autouse=True)
def back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RETRY_MS", (20, 60))


@asynccontextmanager
async def started(
    command: list[str], proxy: CuttingProxy, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        env={"PATH": os.environ["PATH"], "STELLWERK_URL": proxy.url, "STELLWERK_TOKEN": TOKEN},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def printed(process: asyncio.subprocess.Process, *, status: int = 0) -> tuple[list[str], str]:
    """The lines of events, and what was said beside, when the client has ended by itself."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == status, err.decode()
    *lines, rest = out.decode().split("\n")
    assert rest == ""
    return lines, err.decode()


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def submitted(served: Served) -> SessionId:
    """The one session that there is."""
    async with asyncio.timeout(60):
        while not (found := (await served.client.get("/sessions")).json()["sessions"]):
            await asyncio.sleep(0.02)
    return SessionId(UUID(found[0]["session_id"]))


def test_they_are_short_and_complete() -> None:
    assert clients().keys() == set(LANGUAGES)
    for language, text in clients().items():
        assert len(text.splitlines()) <= MAX_LINES, language


async def test_each_event_is_printed_once_however_the_line_is_cut(
    client: list[str], database_url: str, redis_url: str
) -> None:
    plan = (
        Lose(),  # the session is created; the client sends its request again, with its key
        Say(503, b"{}"),
        None,
        Cut("2"),
        Cut("4", through=b"id: "),
        Cut("7", through=b"event: ag", how="reset"),
        Cut("9", through="📡".encode()[:2], how="clean"),
        Cut("12", through=b"}\n", how="clean"),  # all of the frame but the blank line
        Cut("14", through=b"id: 15\n"),
        OVERLOAD,
        Say(502, b"<html>\n\n</html>"),
        Cut("18", how="clean"),
        None,  # until its gateway is stopped
        Cut("30", through=b'"msg":"'),
        Cut(str(LAST)),  # just before `end`: then there is only 204
    )
    async with cutting_proxy(*plan) as proxy, AsyncExitStack() as beyond:
        async with serving(database_url, redis_url) as first:
            proxy.upstream = first.url
            process = await beyond.enter_async_context(started(client, proxy, '{"task": "talk"}'))
            session_id = await submitted(first)
            claim = await begun(first.gateway.backends, session_id)
            for number in range(REPORTS):
                await report(first.gateway.backends, claim, number, TALK)
                await asyncio.sleep(0.01)
            await wait_for(lambda: len(proxy.plan) == 2)
            proxy.upstream = None
        async with serving_app(quick(database_url=database_url, redis_url=redis_url, token=TOKEN)) as second:
            proxy.upstream = second.url
            backends = second.gateway.backends
            await report(backends, claim, 1, LARGE)
            for number in range(1, REPORTS):
                await report(backends, claim, number, TALK)
                await asyncio.sleep(0.01)
            await attempts.complete_step(backends, claim, {"plan": ["ruff"]}, commit="c0ffee")
            await advance(backends, session_id, finished=True)
            lines, _ = await printed(process)
            expected = await logged(backends.engine, session_id)
            assert len((await second.client.get("/sessions")).json()["sessions"]) == 1
    assert lines == expected and len(expected) == LAST
    assert proxy.plan == []
    assert [request.method for request in proxy.requests[:4]] == ["POST", "POST", "POST", "GET"]
    assert proxy.requests[-1].target.endswith(f"&after={LAST}")
    overloaded = plan.index(OVERLOAD)
    assert proxy.requests[overloaded + 1].came_at - proxy.requests[overloaded].came_at >= OVERLOAD_SECONDS


async def test_a_client_that_is_started_again_goes_on_from_its_last_id(
    client: list[str], database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url) as served, cutting_proxy() as proxy:
        proxy.upstream = served.url
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(20))
        await close(engine, stream_id)
        everything = await logged(engine, stream_id)
        for last in (0, 12, 21):
            async with started(client, proxy, str(stream_id), str(last)) as process:
                assert (await printed(process))[0] == everything[last:]
        async with started(client, proxy, "00000000-0000-0000-0000-000000000000") as process:
            assert (await printed(process, status=1))[0] == []  # 404: to try again would be pointless


@pytest.fixture
def restored_url(postgres: EmbeddedPostgres, database_url: str) -> Iterator[str]:
    """Where `restore` puts its copy."""
    name = f"{database_url.rpartition('/')[2]}_restored"
    yield url_of(postgres, name)
    execute(postgres.superuser_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def copy(postgres: EmbeddedPostgres, database_url: str, to: str) -> None:
    """As a dump that is restored: nobody is connected meanwhile."""
    names = [url.rpartition("/")[2] for url in (to, database_url)]
    execute(postgres.superuser_url, "CREATE DATABASE {} TEMPLATE {}".format(*names))


@pytest.mark.parametrize("cut_after", [4, 8])
async def test_a_restored_database_is_told_and_what_survived_is_not_printed_again(
    client: list[str], cut_after: int, postgres: EmbeddedPostgres, database_url: str, restored_url: str, redis_url: str
) -> None:
    """Five events are in the backup; the client has seen four of them, or also three that were lost since."""
    async with engine_of(database_url) as engine:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(5))
    copy(postgres, database_url, restored_url)
    async with engine_of(restored_url) as engine:
        await bump_epoch(engine, "restored")
        await append(engine, stream_id, range(100, 103))
        await close(engine, stream_id)
        after_restore = await logged(engine, stream_id)
    async with (
        cutting_proxy(Cut(str(cut_after), through=b"id: ", is_last=True)) as proxy,
        started(client, proxy, str(stream_id)) as process,
    ):
        async with serving(database_url, redis_url) as before:
            await append(before.gateway.engine, stream_id, range(5, 10))
            before_restore = await logged(before.gateway.engine, stream_id, until=cut_after)
            proxy.upstream = before.url
            await wait_for(lambda: proxy.upstream is None)
        async with serving(restored_url, redis_url) as after:
            proxy.upstream = after.url
            lines, told = await printed(process)
    is_lost = cut_after > 5
    assert lines == before_restore + after_restore[0 if is_lost else cut_after :]
    assert told.count('"reason":') == is_lost


async def test_an_epoch_that_rises_while_a_client_is_connected(
    client: list[str], database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url) as served, cutting_proxy() as proxy:
        proxy.upstream = served.url
        engine = served.gateway.engine
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(5))
        async with started(client, proxy, str(stream_id)) as process:
            before = await logged(engine, stream_id)
            await wait_for(lambda: served.gateway.follower.readers == 1)
            assert process.stdout is not None
            first = [(await process.stdout.readline()).decode().rstrip("\n") for _ in before]
            await bump_epoch(engine, "failover")
            await append(engine, stream_id, range(5, 8))
            await close(engine, stream_id)
            lines, told = await printed(process)
        assert first + lines == await logged(engine, stream_id)  # what survived is not printed again
        assert told.count('"reason":') == 0
        assert len(proxy.requests) == 1
