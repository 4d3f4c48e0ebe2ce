"""The hash chain, as the database computes it in append_events."""

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def genesis(stream_id: UUID) -> bytes:
    """The chain before offset 1."""
    return hashlib.sha256(stream_id.bytes).digest()


def digest(salt: bytes, data: str) -> bytes:
    """What stands in the chain for a payload; with the salt erased it says nothing about it."""
    return hashlib.sha256(salt + data.encode()).digest()


def link(previous: bytes, offset: int, ts: datetime, event_digest: bytes) -> bytes:
    """The chain at `offset`. Integers are 8 bytes big-endian, `ts` counts microseconds since 1970."""
    microseconds = (ts - _EPOCH) // _MICROSECOND
    return hashlib.sha256(
        previous + offset.to_bytes(8, "big") + microseconds.to_bytes(8, "big", signed=True) + event_digest
    ).digest()
