"""Contents too large for an event, by their SHA-256, kept with the stream whose events name them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import Altered, InvalidEvent, NotFound
from app.events.types import AnyStreamId

_DIGEST = re.compile("[0-9a-f]{64}")
JSON, PATCH = "application/json", "text/x-diff"
"""The media types of what is outsourced, and of a session's patch."""


@dataclass(frozen=True, slots=True)
class Artifact:
    media_type: str
    content: bytes


async def put_artifact(db: AsyncConnection, stream_id: AnyStreamId, content: bytes, *, media_type: str) -> str:
    """Stores it in the caller's transaction; returns its SHA-256 in hexadecimal."""
    digest: bytes | None = await db.scalar(
        text("SELECT put_artifact(:stream_id, :media_type, :content)"),
        {"stream_id": stream_id, "media_type": media_type, "content": content},
    )
    assert digest is not None
    return digest.hex()


async def get_artifact(db: AsyncConnection, stream_id: AnyStreamId, digest: bytes) -> Artifact:
    """Raises NotFound, and Altered where the content is not what its digest says."""
    row = (
        await db.execute(
            text("SELECT media_type, content FROM artifacts WHERE stream_id = :id AND digest = :digest"),
            {"id": stream_id, "digest": digest},
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"stream {stream_id} has no artifact {digest.hex()}")
    artifact = Artifact(*row)
    if hashlib.sha256(artifact.content).digest() != digest:
        raise Altered(f"the artifact {digest.hex()} is not what was written; `stellwerk verify {stream_id}` says more")
    return artifact


async def outsource(db: AsyncConnection, stream_id: AnyStreamId, value: Any, *, max_bytes: int) -> Any:
    """`value` itself, or `{"$artifact": digest, "size": bytes}` when its JSON has more than `max_bytes`.

    A value that only looks like such a reference is stored too, so that `fetch` gives it back.
    """
    content = _as_json(value)
    if _fits(value, content, max_bytes):
        return value
    digest = await put_artifact(db, stream_id, content, media_type=JSON)
    return {"$artifact": digest, "size": len(content)}


def fits(value: Any, *, max_bytes: int) -> bool:
    """Says whether `outsource` would leave it as it is. Raises InvalidEvent."""
    return _fits(value, _as_json(value), max_bytes)


def _fits(value: Any, content: bytes, max_bytes: int) -> bool:
    return len(content) <= max_bytes and not is_reference(value)


def _as_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"the value cannot be written as JSON: {error}") from error


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$artifact", "size"}


OUTSOURCED = frozenset(
    [
        *("input", "context", "config", "state", "delta", "update", "returned", "result"),
        *("question", "answer_schema", "answer", "request", "response", "arguments"),
    ]
)
"""The fields of events whose values may be references."""


def named_by(event: Mapping[str, Any]) -> list[str]:
    """The digests of the artifacts that an event names."""
    return [digest for digest, _ in media_types_of(event)]


def media_types_of(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The digests of the artifacts that an event names, each with the media type that it has there."""
    values: list[Any] = [event[name] for name in event.keys() & OUTSOURCED]
    if isinstance(result := event.get("result"), dict):
        values += result.values()  # of a large result, each large value may be one
    named = [(value["$artifact"], JSON) for value in values if is_reference(value)]
    if isinstance(result, dict):
        named.append((result.get("patch_digest"), PATCH))
    return [(digest, kind) for digest, kind in named if isinstance(digest, str) and _DIGEST.fullmatch(digest)]


async def fetch(db: AsyncConnection, stream_id: AnyStreamId, value: Any) -> Any:
    """Returns the content that a reference names that `outsource` made; any other value is returned as it is."""
    if not is_reference(value):
        return value
    artifact = await get_artifact(db, stream_id, bytes.fromhex(value["$artifact"]))
    return orjson.loads(artifact.content)
