"""The four walks of app/README.md are the ways that the calls take, file by file."""

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import pytest
from httpx_sse import aconnect_sse

from app.config import Settings
from app.progress import SessionId
from tests.graphs import walked
from tests.roles import as_app
from tests.serving import Served, serving
from workers.graph.loading import load_workflows
from workers.process.runtime import Runtime

ROOT = Path(__file__).parents[2]
README = ROOT / "app" / "README.md"
GROUND_FLOOR = re.compile(r"app/[a-z_]+\.py")
"""Where every call stands: settings, errors, the database. A walk begins there at most."""
HAND_OVERS = {
    "a task to its first step": [
        "app/sessions/service.py:_insert",
        "app/events/append.py:append",
        "app/sessions/admission.py:admit_sessions",
        "app/sessions/dispatch.py:Dispatch.advance_session",
        "workers/graph/fold.py:start",
        "app/sessions/repository.py:commit_fold",
        "app/sessions/dispatch.py:Dispatch.run_step",
    ],
    "a report to a frame": [
        "workers/steps/surroundings.py:AttemptReporter._shielded",
        "app/events/group_commit.py:_Flusher.put",
        "app/events/arrays.py:call_append",
        "app/events/push.py:Push.publish",
        "app/gateway/streaming/uvicorn_response.py:EventStream._take",
    ],
    "a cursor to its SQL": [
        "app/gateway/streaming/start.py:place",
        "app/gateway/streaming/uvicorn_response.py:EventStream.run",
        "app/events/follow/shared_reads.py:SharedReads._task",
        "app/events/read.py:read_frames",
    ],
    "a step's end to the next bell": [
        "app/sessions/step_repository.py:complete",
        "workers/graph/fold.py:fold",
        "app/sessions/repository.py:commit_fold",
        "app/sessions/dispatch.py:Dispatch.run_step",
    ],
}
"""Where a walk is looked at: what stands on the call's stack there, it goes through."""
EVENT_LOOP = Runtime._run_loop.__code__


class Surveyor:
    """Notes which files of the project stand on the stack at the hand-overs of a walk."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.met: set[str] = set()
        self._hand_overs: set[str] = set()

    @contextmanager
    def on(self, walk: str) -> Iterator[None]:
        self._hand_overs = set(HAND_OVERS[walk])
        yield
        self._hand_overs = set()

    def look(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self._hand_overs or (here := place(frame)) not in self._hand_overs:
            return
        stack = []
        caller: FrameType | None = frame
        while caller is not None:
            stack.append(place(caller).partition(":")[0])
            caller = caller.f_back
        if any(file.startswith("workers/maintenance/") for file in stack):  # a round that comes between
            return
        self.met.add(here)
        for file in reversed(stack):
            if file and file not in self.files:
                self.files.append(file)


def place(frame: FrameType) -> str:
    """The file and the function, for the project's own files; empty for all others."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT):
        return ""
    file = path.relative_to(ROOT).as_posix()
    if frame.f_code is EVENT_LOOP:  # below everything that a worker does
        return ""
    return f"{file}:{frame.f_code.co_qualname}" if file.startswith(("app/", "workers/")) else ""


@pytest.fixture
def surveyors() -> Iterator[dict[str, Surveyor]]:
    """One for each walk; they look at every thread that starts from now on."""
    found = {walk: Surveyor() for walk in HAND_OVERS}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        for surveyor in found.values():
            surveyor.look(frame, event, argument)

    threading.setprofile(look)
    sys.setprofile(look)
    yield found
    sys.setprofile(None)
    threading.setprofile(None)


@asynccontextmanager
async def worker(database_url: str, redis_url: str, home: Path) -> AsyncIterator[Runtime]:
    """A worker's runtime, whose messages this test delivers."""
    settings = Settings(database_url=as_app(database_url), redis_url=redis_url, home=home)
    runtime = Runtime(settings, load_workflows(["tests.graphs.walked"]))
    interval = sys.getswitchinterval()
    await asyncio.to_thread(runtime.start)
    try:
        yield runtime
    finally:
        await asyncio.to_thread(runtime.stop)
        sys.setswitchinterval(interval)


async def test_the_walks_of_the_readme(
    database_url: str, redis_url: str, home: Path, surveyors: dict[str, Surveyor]
) -> None:
    async with worker(database_url, redis_url, home) as runtime, serving(database_url, redis_url) as served:
        await walk(served, runtime, surveyors)
    for title, surveyor in surveyors.items():
        assert surveyor.met == set(HAND_OVERS[title]), title
        through = [file for file in surveyor.files if not GROUND_FLOOR.fullmatch(file)]
        assert sorted(rooms(title)) == sorted(through), title


async def walk(served: Served, runtime: Runtime, surveyors: dict[str, Surveyor]) -> None:
    with surveyors["a task to its first step"].on("a task to its first step"):
        created = await served.create_session(workflow="walked")
        session_id = SessionId(UUID(created["session_id"]))
        await asyncio.to_thread(runtime.advance_session, session_id)
    running = asyncio.create_task(asyncio.to_thread(runtime.run_step, session_id, 1, 1, "first"))
    await asyncio.to_thread(walked.BEGUN.wait)
    with surveyors["a cursor to its SQL"].on("a cursor to its SQL"):
        headers = {"Last-Event-ID": "1"}
        async with aconnect_sse(served.client, "GET", f"/events?session_id={session_id}", headers=headers) as source:
            events = source.aiter_sse()
            while (await anext(events)).event != "step":
                pass
            await follow_the_step(running, events, surveyors)
    await asyncio.to_thread(runtime.run_step, session_id, 2, 1, "second")


async def follow_the_step(
    running: "asyncio.Task[None]", events: AsyncIterator[Any], surveyors: dict[str, Surveyor]
) -> None:
    with surveyors["a report to a frame"].on("a report to a frame"):
        walked.MAY_REPORT.set()
        while (await anext(events)).event != "agent":
            pass
    with surveyors["a step's end to the next bell"].on("a step's end to the next bell"):
        walked.MAY_END.set()
        await running


def rooms(title: str) -> list[str]:
    """The files of a walk as app/README.md lists them: a numbered line for each."""
    section = README.read_text().partition(f"### {title[0].upper()}{title[1:]}\n")[2].partition("\n#")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)
