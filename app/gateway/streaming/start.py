"""Where a reader starts: cursor, start parameters and filters of a request, resolved against the stream."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import BadCursor, CursorOutOfRange
from app.events.read import EVERYTHING, Filter, StreamState, offset_before, stream_state
from app.events.types import AnyStreamId
from app.gateway.inputs import Text, Timestamp

_INTEGER = re.compile(r"-?[0-9]{1,30}", re.ASCII)
# For the document only: what does not fit is answered with 400 and more than "does not match the pattern".
_CURSOR = {"pattern": "^(latest|-?[0-9]{1,29})$"}
_NUMBER = {"pattern": "^-?[0-9]{1,29}$"}

Names = Annotated[list[Text] | None, Query(description="Only these; repeated or separated by commas.", max_length=100)]


@dataclass(frozen=True, slots=True)
class Start:
    """What the client asked for."""

    after: int | None
    latest: bool
    tail: int | None
    since: datetime | None
    epoch: int | None
    only: Filter


@dataclass(frozen=True, slots=True)
class Opening:
    """What it gets. With a `reset` the cursor could not be served, and `after` is the earliest place."""

    state: StreamState
    after: int
    only: Filter
    reset: CursorOutOfRange | None = None


async def start_of_reading(
    after: Annotated[
        str | None,
        Query(
            description="The last offset that you have, 0 for all, or `latest`.",
            max_length=30,
            json_schema_extra=_CURSOR,
        ),
    ] = None,
    tail: Annotated[
        str | None,
        Query(description="Start this many events before the head.", max_length=30, json_schema_extra=_NUMBER),
    ] = None,
    since: Annotated[
        Timestamp | None,
        Query(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC), description="RFC 3339."),
    ] = None,
    t: Names = None,
    agent: Names = None,
    phase: Names = None,
    epoch: Annotated[int | None, Query(description="The life of the offsets, from a `stream` frame.")] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            description="Beats every start parameter; EventSource sends it.",
            max_length=30,
            json_schema_extra=_NUMBER,
        ),
    ] = None,
) -> Start:
    """Raises BadCursor."""
    only = EVERYTHING
    if t or agent or phase:
        only = Filter(t=frozenset(map(_kind, _split(t))), agent=_split(agent), phase=_split(phase))
    latest = after == "latest"
    offset = None if latest or after is None else _integer(after, "after")
    count = None if tail is None else max(0, _integer(tail, "tail"))
    if last_event_id:
        return Start(_integer(last_event_id, "Last-Event-ID"), False, None, None, epoch, only)
    if sum(parameter is not None for parameter in (after, tail, since)) > 1:
        raise BadCursor("give one of after, tail and since")
    return Start(after=offset, latest=latest, tail=count, since=since, epoch=epoch, only=only)


StartOfReading = Annotated[Start, Depends(start_of_reading)]


async def resolve(db: AsyncConnection, stream_id: AnyStreamId, start: Start) -> Opening:
    """Raises NotFound."""
    state = await stream_state(db, stream_id)
    return place(state, start, 0 if start.since is None else await offset_before(db, stream_id, start.since))


def place(state: StreamState, start: Start, before_since: int = 0) -> Opening:
    """With `since`: the last offset before it must be given."""
    earliest = state.earliest - 1
    if start.epoch is not None and start.epoch != state.epoch:
        reason = f"offsets of epoch {start.epoch} mean nothing in epoch {state.epoch}"
        return _reset(state, start, reason)
    if start.after is not None:
        if earliest <= start.after <= state.head:
            return Opening(state, start.after, start.only)
        return _reset(state, start, None)
    if start.latest:
        return Opening(state, state.head, start.only)
    if start.tail is not None:
        return Opening(state, max(earliest, state.head - start.tail), start.only)
    if start.since is not None:
        return Opening(state, min(max(earliest, before_since), state.head), start.only)
    return Opening(state, earliest, start.only)


def _reset(state: StreamState, start: Start, reason: str | None) -> Opening:
    error = CursorOutOfRange(start.after or 0, earliest=state.earliest, head=state.head, reason=reason)
    return Opening(state, state.earliest - 1, start.only, error)


def _integer(text: str, name: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadCursor(f"{name} is {text!r}, which is no integer; give the offset of the last event you have")
    return int(text)


def _split(names: list[str] | None) -> frozenset[str]:
    return frozenset(part.strip() for name in names or () for part in name.split(",") if part.strip())


def _kind(name: str) -> str:
    """`agent` and `agent_event` are the same to a filter."""
    return f"{name.removesuffix('_event')}_event"
