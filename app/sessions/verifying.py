"""Verifying streams with all that stands beside them, and a database as a whole."""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.errors import describe
from app.events.proof.entries import Told, read_epochs, stream_ids, verify_stream
from app.events.proof.fault import Fault
from app.events.proof.heads_check import check_heads
from app.events.proof.order import Epochs
from app.events.read import StreamState
from app.events.types import HEADS_STREAM, AnyStreamId, StreamId
from app.principals.operators_check import OperatorsCheck
from app.sessions.session_check import SessionCheck
from app.sessions.strays import find_strays


def told_by(state: StreamState) -> Told | None:
    """What takes the events of a stream of this kind."""
    match state.kind:
        case "session":
            return SessionCheck()
        case "operators":
            return OperatorsCheck()
        case _:
            return None


async def verify(
    engine: AsyncEngine,
    stream_id: AnyStreamId,
    checked: Callable[[], object] = lambda: None,
    *,
    kept: bytes | None = None,
    epochs: Epochs | None = None,
) -> AsyncIterator[Fault]:
    """Verifies a stream, and that the rows beside it say what it says. Raises NotFound.

    Calls `checked` after each event. `kept` is a chain that was kept from an earlier head.
    """
    try:
        async for fault in verify_stream(engine, stream_id, checked, kept=kept, told_by=told_by, epochs=epochs):
            yield fault
    except DataError as error:  # such as a time that is infinite
        yield Fault("stream", f"it holds what the log never does: {describe(error)}", "columns")


class Found(NamedTuple):
    """What a whole database's verification found of a stream; or of the database, where that is None."""

    stream_id: StreamId | None
    faults: list[Fault]


async def verify_all(
    engine: AsyncEngine, checked: Callable[[], object] = lambda: None, *, kept: bytes | None = None
) -> AsyncIterator[Found]:
    """One answer for each stream, then one for what no stream holds. `kept` is a chain of the stream of heads."""
    faults = []
    async with transaction(engine) as db:
        epochs = await read_epochs(db)
    async for stream_id in stream_ids(engine):
        of_heads, kept = (kept, None) if stream_id == HEADS_STREAM else (None, kept)
        yield Found(stream_id, [f async for f in verify(engine, stream_id, checked, kept=of_heads, epochs=epochs)])
    if kept is not None:
        faults.append(Fault("heads", f"there are none, and so not the chain that was kept, {kept.hex()}", "heads"))
    faults += [fault async for fault in find_strays(engine)]
    faults += [fault async for fault in check_heads(engine)]
    yield Found(None, faults)
