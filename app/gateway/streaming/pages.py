"""Pages of a stream as JSON: the very bytes that its frames carry."""

from typing import Any

import orjson
from fastapi import Response

from app.events.cursors import Cursor
from app.events.read import read_page
from app.events.types import AnyStreamId
from app.gateway.streaming.endpoint import resolve
from app.gateway.streaming.start import Start
from app.gateway.wiring import Gateway
from app.principals.model import Principal

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

FEED_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A live stream; of the feed without `Accept: text/event-stream` a page",
        "content": {"text/event-stream": SSE, "application/json": FEED_PAGE},
    },
    204: CLOSED,
}


async def event_page(
    gateway: Gateway, principal: Principal, stream_id: AnyStreamId, start: Start, limit: int
) -> Response:
    """The next events after the cursor. Raises NotFound and CursorOutOfRange."""
    async with gateway.snapshot() as db:
        opening = await resolve(db, principal, stream_id, start)
        if opening.reset is not None:
            raise opening.reset
        state = opening.state
        events = await read_page(db, state, after=opening.after, limit=limit, only=opening.only)
    # After the last event of a page that is not full, there is nothing up to the head that matches.
    reached = events[-1].offset if len(events) == limit else max(state.head, opening.after)
    head = {
        "epoch": state.epoch,
        "earliest": state.earliest,
        "head": state.head,
        "head_chain": state.head_chain.hex(),
        "next": str(Cursor(state.epoch, reached)),
        "status": state.status,
        "closed": state.closed,
    }
    joined = ",".join(event.wire() for event in events)
    return Response(f'{{"events":[{joined}],{orjson.dumps(head).decode()[1:]}', media_type="application/json")
