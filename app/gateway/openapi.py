"""The OpenAPI document: FastAPI's, and what it cannot see: events, pages of them, and problems.

`openapi.json` beside this file is a copy of it, so that a change of what clients meet shows in a diff.
`stellwerk openapi --into app/gateway/openapi.json` writes that copy.
"""

import json
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from app.events.types import EVENT
from app.gateway.callers import ByPrincipal
from app.gateway.problems import Problem

router = APIRouter(include_in_schema=False)

_REFERENCE = "#/components/schemas/{model}"
_EVENT_PAGE = {
    "title": "EventPage",
    "type": "object",
    "required": ["events", "epoch", "earliest", "head", "head_chain", "next", "previous", "status", "closed"],
    "properties": {
        "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
        "epoch": {"type": "integer", "description": "The life of the database's offsets."},
        "earliest": {"type": "integer", "description": "The first offset that there still is."},
        "head": {"type": "integer", "description": "The stream's last offset."},
        "head_chain": {"type": "string", "description": "The hash chain at head, in hexadecimal."},
        "next": {"type": "string", "description": "Pass it as `after` for the next page."},
        "previous": {"type": ["string", "null"], "description": "Pass it as `before` for the page before."},
        "status": {"type": ["string", "null"], "description": "What the stream's last session_event says."},
        "closed": {"type": "boolean", "description": "No event will come after head."},
    },
}

_FEED_PAGE = {
    "title": "FeedPage",
    "type": "object",
    "required": ["events", "epoch", "head", "next"],
    "properties": {
        "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
        "epoch": {"type": "integer", "description": "The life of the database's offsets."},
        "head": {"type": "string", "description": "The place of the last event that there is."},
        "next": {"type": "string", "description": "Pass it as `after` for the next page, until it equals head."},
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """Paths and schemas stand in alphabetical order, whatever the order in which routers were included."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = found["components"]["schemas"]
    for name, adapter in (("Event", EVENT), ("Problem", TypeAdapter(Problem))):
        schema = adapter.json_schema(ref_template=_REFERENCE, mode="serialization")
        schemas |= schema.pop("$defs", {}) | {name: schema}
    schemas |= {"EventPage": _EVENT_PAGE, "FeedPage": _FEED_PAGE}
    found["paths"] = dict(sorted(found["paths"].items()))
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    return found


def text_of(app: FastAPI) -> str:
    """The document as openapi.json holds it."""
    return json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"


@router.get("/openapi.json")
async def openapi(request: Request, principal: ByPrincipal) -> dict[str, Any]:
    app: FastAPI = request.app
    if app.openapi_schema is None:
        app.openapi_schema = document(app)
    return app.openapi_schema
