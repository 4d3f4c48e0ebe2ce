"""What the log alone says of a session, for rebuilding it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import transaction
from app.errors import Altered
from app.events import artifacts, read
from app.progress import SessionId
from app.sessions import repository
from app.sessions.model import SessionRow
from app.unit_of_work import Backends, unit_of_work

PAGE = 1000


@dataclass(frozen=True, slots=True)
class History:
    """What the log alone says of a session: how it was started, and each superstep's results by task path."""

    workflow: str
    version: str
    input: Any
    supersteps: tuple[dict[str, Any], ...]
    context: dict[str, Any] | None
    """None: none was given; a schema makes its own defaults of an empty one."""
    config: dict[str, Any]
    start_state: Any
    """The final state of the session that it continues, as the codec wrote it; None: it starts from its input alone."""


async def read_history(backends: Backends, session_id: SessionId) -> History:
    """Reads the whole stream, page by page. Raises NotFound."""
    started: dict[str, Any] = {}
    queued: dict[int, tuple[int, str]] = {}
    results: dict[int, dict[str, Any]] = {}
    async with transaction(backends.engine) as db:
        async for event in _events(db, session_id, "session_event", "step_event"):
            if event["t"] == "session_event" and event["status"] == "created":
                started = event
            elif event["t"] == "step_event" and "task_path" in event:
                queued[event["step"]] = (event["superstep"], event["task_path"])
            elif event["t"] == "step_event" and event["status"] == "succeeded":
                superstep, path = queued[event["step"]]
                update = await artifacts.fetch(db, session_id, event["update"])
                results.setdefault(superstep, {})[path] = update
        names = ("input", "context", "config", "state")
        given = {name: await artifacts.fetch(db, session_id, started.get(name)) for name in names}
    return History(
        started["workflow"],
        started["version"],
        given["input"],
        tuple(results[number] for number in sorted(results)),
        context=given["context"],
        config=given["config"] or {},
        start_state=given["state"],
    )


async def read_start_state(db: AsyncConnection, session_id: SessionId) -> Any:
    """The state that a session started from, as the codec wrote it. Raises NotFound."""
    state = await read.stream_state(db, session_id)
    first, *_ = await read.read_page(db, state, after=0, limit=1)
    return await artifacts.fetch(db, session_id, read.parse(first).get("state"))


async def read_result(db: AsyncConnection, session_id: SessionId) -> Any:
    """The result that the log's last event gives a session that has succeeded. Raises NotFound and Altered."""
    state = await read.stream_state(db, session_id)
    for last in await read.read_page(db, state, after=state.head - 1, limit=1):
        event = read.parse(last)
        if (event["t"], event.get("status")) == ("session_event", "succeeded"):
            return await artifacts.fetch(db, session_id, event.get("result"))
    raise Altered(f"the log of {session_id} does not end with a result; `stellwerk verify {session_id}` says more")


async def read_answers(backends: Backends, session_id: SessionId, step: int) -> list[Any]:
    """All answers that a step got, in order."""
    answers = []
    async with transaction(backends.engine) as db:
        async for event in _events(db, session_id, "approval_event"):
            if event["step"] == step and event["status"] in {"approved", "rejected"}:
                answers.append(await artifacts.fetch(db, session_id, event["answer"]))
    return answers


async def _events(db: AsyncConnection, session_id: SessionId, *kinds: str) -> AsyncIterator[dict[str, Any]]:
    """The stream's events of these kinds, page by page. Raises NotFound."""
    state = await read.stream_state(db, session_id)
    after, only = 0, read.Filter(t=frozenset(kinds))
    while page := await read.read_page(db, state, after=after, limit=PAGE, only=only):
        for event in map(read.parse, page):
            yield event
        after = page[-1].offset


async def read_session(backends: Backends, session_id: SessionId) -> SessionRow:
    """Raises NotFound."""
    async with transaction(backends.engine) as db:
        return await repository.session_row(db, session_id)


async def session_ids(backends: Backends) -> AsyncIterator[SessionId]:
    """All sessions, newest first, page by page."""
    before = None
    while True:
        async with transaction(backends.engine) as db:
            page = await repository.list_ids(db, before=before, limit=PAGE)
        for session_id in page:
            yield session_id
        if not page:
            return
        before = page[-1]


async def replace_snapshot(backends: Backends, session: SessionRow, snapshot: bytes) -> bool:
    """Puts a rebuilt snapshot in the place of the one that was read; False when the session moved on."""
    async with unit_of_work(backends, session.session_id) as work:
        current = await repository.session_row(work.db, session.session_id)
        if current.snapshot_version != session.snapshot_version:
            return False
        await repository.set_snapshot(work.db, session.session_id, snapshot)
        return True
