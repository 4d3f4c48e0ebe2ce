"""Pages of a stream as JSON, and single events: the very bytes that its frames carry."""

from typing import Any

import orjson
from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import CursorOutOfRange, NotFound
from app.events.cursors import Cursor
from app.events.encoding import Recorded
from app.events.honouring import epoch_of
from app.events.read import StreamState, read_back, read_page, stream_state
from app.events.types import AnyStreamId
from app.gateway.query import refuse_parameters, wants_stream
from app.gateway.streaming.endpoint import event_stream, resolve
from app.gateway.streaming.manner import Manner
from app.gateway.streaming.parameters import PageAsked
from app.gateway.wiring import Gateway
from app.principals.model import Principal, check_readable

# What a parser gives for each frame; `data` of an event's frame is one `Event` as JSON.
_FRAME = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The cursor: an offset, or a place in the feed."},
        "event": {
            "type": "string",
            "description": "`stream`, `cursor`, `heartbeat`, `reset`, `away`, `end`, or an event's t without `_event`.",
        },
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer", "description": "Milliseconds before coming back."},
    },
}
SSE = {"itemSchema": _FRAME}
PAGE = {"schema": {"$ref": "#/components/schemas/EventPage"}}
FEED_PAGE = {"schema": {"$ref": "#/components/schemas/FeedPage"}}
CLOSED = {"description": "The stream is closed and holds nothing more: do not come back"}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or with `Accept: text/event-stream` a live stream",
        "content": {"application/json": PAGE, "text/event-stream": SSE},
    },
    204: CLOSED,
}

ONE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The event, as streams and pages have it",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Event"}}},
    }
}
OF_STREAMS = ("on_end", "follow", "heartbeat")
ONLY_STREAMS = "is for streams, which `Accept: text/event-stream` asks for"
OF_PAGES = "is for pages; a stream gives all that there is and comes"
FEED_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A live stream; of the feed without `Accept: text/event-stream` a page",
        "content": {"text/event-stream": SSE, "application/json": FEED_PAGE},
    },
    204: CLOSED,
}


async def stream_or_page(
    request: Request, gateway: Gateway, principal: Principal, stream_id: AnyStreamId, asked: PageAsked, manner: Manner
) -> Response:
    """Raises NotFound, TooMany, BadQuery and CursorOutOfRange."""
    if wants_stream(request):
        refuse_parameters(request, "before", "limit", because=OF_PAGES)
        return await event_stream(gateway, principal, stream_id, asked.start, manner)
    refuse_parameters(request, *OF_STREAMS, because=ONLY_STREAMS)
    async with gateway.snapshot() as db:
        if asked.before is not None:
            return await _page_before(db, principal, stream_id, asked.before, asked)
        return await _page_after(db, principal, stream_id, asked)


async def _page_after(db: AsyncConnection, principal: Principal, stream_id: AnyStreamId, asked: PageAsked) -> Response:
    opening = await resolve(db, principal, stream_id, asked.start)
    if opening.reset is not None:
        raise opening.reset
    state, after = opening.state, opening.after
    events = await read_page(db, state, after=after, limit=asked.limit, only=opening.only)
    # After the last event of a page that is not full, there is nothing up to the head that matches.
    reached = events[-1].offset if len(events) == asked.limit else max(state.head, after)
    return _page(state, events, before=after + 1, after=reached)


async def _page_before(
    db: AsyncConnection, principal: Principal, stream_id: AnyStreamId, before: Cursor, asked: PageAsked
) -> Response:
    """In the order of all pages: the event that comes last is the nearest to the cursor."""
    state = check_readable(principal, await stream_state(db, stream_id))
    if not state.earliest <= before.offset <= state.head + 1:
        raise _out_of_range(state, f"before={before.offset} is outside {state.earliest} … {state.head + 1}")
    written_in = await epoch_of(db, stream_id, before.offset, known=before.epoch)
    if before.epoch > state.epoch or (written_in or state.epoch) > before.epoch:
        raise _out_of_range(state, _of_another_life(before, state))
    events = await read_back(db, state, before=before.offset, limit=asked.limit, only=asked.start.only)
    begins = events[0].offset if len(events) == asked.limit else state.earliest
    return _page(state, events, before=begins, after=before.offset - 1)


def _page(state: StreamState, events: list[Recorded], *, before: int, after: int) -> Response:
    """`before` and `after` are the offsets where the pages around this one begin to be read."""
    head = {
        "epoch": state.epoch,
        "earliest": state.earliest,
        "head": state.head,
        "head_chain": state.head_chain.hex(),
        "next": str(Cursor(state.epoch, after)),
        "previous": str(Cursor(state.epoch, before)) if before > state.earliest else None,
        "status": state.status,
        "closed": state.closed,
    }
    joined = ",".join(event.wire() for event in events)
    return Response(f'{{"events":[{joined}],{orjson.dumps(head).decode()[1:]}', media_type="application/json")


async def one_event(gateway: Gateway, principal: Principal, stream_id: AnyStreamId, named: Cursor) -> Response:
    """Raises NotFound where there is none yet, and CursorOutOfRange where it is not there any more."""
    async with gateway.snapshot() as db:
        state = check_readable(principal, await stream_state(db, stream_id))
        offset = named.offset
        if not 1 <= offset <= state.head:
            raise NotFound(f"there is no event {named}; the last one is {Cursor(state.epoch, state.head)}")
        written_in = await epoch_of(db, stream_id, offset, known=named.epoch)
        if named.epoch > state.epoch or (written_in or state.epoch) > named.epoch:
            raise _out_of_range(state, _of_another_life(named, state), offset=state.earliest - 1)
        found = await read_page(db, state, after=offset - 1, until=offset, limit=1)
    if not found:
        raise _out_of_range(state, f"the event {named} has expired", offset=state.earliest - 1)
    return Response(found[0].wire(), media_type="application/json")


def _of_another_life(named: Cursor, state: StreamState) -> str:
    return f"the offset {named.offset} of epoch {named.epoch} is another event in epoch {state.epoch}"


def _out_of_range(state: StreamState, reason: str, *, offset: int | None = None) -> CursorOutOfRange:
    """Tells the cursor to start again from; without an `offset` the one after the head, to read back from."""
    again = Cursor(state.epoch, state.head + 1 if offset is None else offset)
    return CursorOutOfRange(reason, cursor=str(again), earliest=state.earliest, head=state.head)
