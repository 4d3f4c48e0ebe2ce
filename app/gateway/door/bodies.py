"""Bodies as they come in: how large each endpoint takes them, and how many values may be in one."""

import re

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from app.config import MIB
from app.door_settings import KIB
from app.gateway.door.connections import refuse

MAX_BODY_BYTES = 8 * MIB
"""For what becomes an artifact when it is too large for an event: a session's input, and answers."""
_REPORT_BYTES = 512 * KIB
"""An event of 256 KiB, and as much again for how it was written."""
SMALL_REPORT_BYTES = 16 * KIB
"""So much is read of a report whose step's token may be made up: that is looked up together with its append."""
_SMALL_BYTES = 256 * KIB
"""A reason of 10,000 characters, each of them escaped."""
_FORM_BYTES = 16 * KIB
_LARGE = re.compile("/sessions|/sessions/[^/]+/approvals/[^/]+")
_REPORT = re.compile("/sessions/[^/]+/events")
MAX_VALUES = 100_000
"""In Python each of them is an object, which several checks look at: a million take a second."""
MAX_VALUES_OF_REPORT = 10_000
"""Whether a small one's token holds is known only after its body was read."""
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
"""A JSON string, or an unfinished one, in one pass: what began is never tried again."""


def largest(path: str) -> int:
    """How many bytes a body may have at this address."""
    if path == "/login":
        return _FORM_BYTES
    if _LARGE.fullmatch(path):
        return MAX_BODY_BYTES
    return _REPORT_BYTES if is_for_reports(path) else _SMALL_BYTES


def is_for_reports(path: str) -> bool:
    return _REPORT.fullmatch(path) is not None


def announced(scope: Scope) -> float:
    """How many bytes the request's head announces; of a chunked one that is not known."""
    length = 0.0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return float("inf")
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 20 else 0.0
    return length


def too_large(limit: int) -> str:
    refuse("large_body")
    return f"a request's body may have {limit} bytes here; put large inputs into files"


async def no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def bounded(receive: Receive, path: str) -> Receive:
    """Hands the body on when it is complete. Raises HTTPException for one that is too large, or holds too much."""
    parts = list[bytes]()
    limit, values = largest(path), MAX_VALUES_OF_REPORT if is_for_reports(path) else MAX_VALUES

    async def receive_all() -> Message:
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                parts.clear()
                raise HTTPException(413, too_large(limit))
            if not message.get("more_body", False):
                break
        body = b"".join(parts)
        parts.clear()
        if _holds_more(body, values):
            refuse("many_values")
            raise HTTPException(413, f"a request's body may hold {values} values here; put large inputs into files")
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_all


def _holds_more(body: bytes, values: int) -> bool:
    """Counts the values of the JSON, nearly: first with what stands in texts, which is quick, then without."""
    if _separators(body) <= values:
        return False
    # To take so many texts out would itself take too long.
    has_many_texts = body.count(b'"') - body.count(b'\\"') > 4 * values
    return has_many_texts or _separators(_TEXT.sub(b"", body)) > values


def _separators(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")
