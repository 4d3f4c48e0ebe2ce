"""The one encoder: an event as stored text, and as the wire form that readers get.

What it refuses, the log never holds; what it stored goes out unchanged, with an envelope in front.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from app.config import MAX_EVENT_BYTES
from app.errors import EventTooLarge, InvalidEvent
from app.events.secrecy import NOTHING_KNOWN, Secrecy
from app.events.types import AnyStreamId, StoredEvent, StreamKind

RESERVED_KEYS = frozenset({"offset", "ts", "session_id", "batch_id", "stream_id"})
"""Only the envelope holds these."""
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Beside:
    """The columns that stand beside an event's text, for queries."""

    t: str
    agent: str | None
    phase: str | None
    step: int | None
    attempt: int | None


def beside(event: Mapping[str, Any]) -> Beside:
    return Beside(
        t=event["t"],
        agent=event.get("agent") or event.get("node"),
        phase=event.get("phase"),
        step=event.get("step"),
        attempt=event.get("attempt"),
    )


def encode(event: StoredEvent, *, max_bytes: int, secrecy: Secrecy = NOTHING_KNOWN) -> str:
    """The text to store, of an event that may hold secrets. Raises InvalidEvent and EventTooLarge."""
    return veiled_and_encoded(event, max_bytes=max_bytes, secrecy=secrecy)[1]


def veiled_and_encoded(event: StoredEvent, *, max_bytes: int, secrecy: Secrecy) -> tuple[StoredEvent, str]:
    """The event without secrets, and its text. But for them, no value is ever changed in silence."""
    data = _dumped(event)
    if secrecy.may_change(data):
        event = secrecy.veiled(event)
        data = _dumped(event)
    if len(data) > max_bytes:
        raise EventTooLarge(
            f"the event has {len(data)} bytes, the log takes {max_bytes} (STELLWERK_MAX_EVENT_BYTES);"
            " put the large part into a file or an artifact"
        )
    return event, data.decode()


def _dumped(event: StoredEvent) -> bytes:
    if reserved := RESERVED_KEYS & event.keys():
        raise InvalidEvent(f"the keys {sorted(reserved)} are reserved for the log")
    check_json(event)
    try:
        return orjson.dumps(event)
    except (TypeError, ValueError) as error:  # lone surrogates, integers beyond 64 bits
        raise InvalidEvent(f"the event cannot be written as JSON: {error}") from error


def printable(text: str) -> str:
    """`text` as the log takes it: without NUL and lone surrogates, which Postgres does not store."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def check_json(value: object, *, where: str = "event", depth: int = 0) -> None:
    """Raises InvalidEvent for what JSON or Postgres would change or refuse."""
    if depth > MAX_DEPTH:
        raise InvalidEvent(f"{where[:60]}… is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool() | int() | datetime() | date() | time() | UUID():
            pass
        case str():
            if "\x00" in value:
                raise InvalidEvent(f"{where} holds a NUL character")
        case float():
            if not math.isfinite(value):
                raise InvalidEvent(f"{where} is {value}; JSON has finite numbers only")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or "\x00" in key:
                    raise InvalidEvent(f"{where} has the key {key!r}; keys are text without NUL")
                check_json(item, where=f"{where}.{key}", depth=depth + 1)
        case list() | tuple():
            for index, item in enumerate(value):
                check_json(item, where=f"{where}[{index}]", depth=depth + 1)
        case _:
            raise InvalidEvent(f"{where} is a {type(value).__name__}, which has no JSON form")


class Item(NamedTuple):
    """An event to append. With a `lease` it is refused unless that lease holds its step."""

    stream_id: AnyStreamId
    kind: StreamKind
    data: str
    t: str
    agent: str | None = None
    phase: str | None = None
    step: int | None = None
    attempt: int | None = None
    lease: UUID | None = None
    dedupe_key: str | None = None


def item(
    stream_id: AnyStreamId,
    event: StoredEvent,
    *,
    kind: StreamKind = "session",
    lease: UUID | None = None,
    dedupe_key: str | None = None,
    max_bytes: int = MAX_EVENT_BYTES,
    secrecy: Secrecy = NOTHING_KNOWN,
) -> Item:
    """Encodes `event` for a stream. Raises InvalidEvent and EventTooLarge.

    Gateways and workers come here by `Backends.item`, which knows their secrets.
    """
    event, data = veiled_and_encoded(event, max_bytes=max_bytes, secrecy=secrecy)
    columns = beside(event)
    return Item(
        stream_id=stream_id,
        kind=kind,
        data=data,
        t=columns.t,
        agent=columns.agent,
        phase=columns.phase,
        step=columns.step,
        attempt=columns.attempt,
        lease=lease,
        dedupe_key=dedupe_key,
    )


ID_KEYS: Mapping[StreamKind, str] = {
    "session": "session_id",
    "batch": "batch_id",
    "operators": "stream_id",
    "heads": "stream_id",
}
"""How the envelope names a stream of each kind."""


def format_ts(ts: datetime) -> str:
    """RFC 3339 in UTC with microseconds and Z."""
    # Every event that goes out passes here; strftime would take three times as long.
    return ts.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def stream_member(kind: StreamKind, stream_id: UUID) -> str:
    """The envelope's member that names the stream."""
    return f'"{ID_KEYS[kind]}":"{stream_id}"'


class Recorded(NamedTuple):
    """An event in the log. `data` is the stored text.

    A tuple, because readers make millions of them: a frozen dataclass takes five times as long.
    """

    stream_id: AnyStreamId
    kind: StreamKind
    offset: int
    ts: datetime
    t: str
    agent: str | None
    phase: str | None
    data: str

    def wire(self) -> str:
        """What SSE frames, JSON pages and exports share: an envelope, then the stored bytes."""
        return (
            f'{{"offset":{self.offset},{stream_member(self.kind, self.stream_id)},'
            f'"ts":"{format_ts(self.ts)}",{self.data[1:]}'
        )

    def frame(self) -> bytes:
        """The SSE frame as in the first epoch; its `event:` is t without `_event`. read.read_frames makes the same."""
        return f"id: {self.offset}\nevent: {self.t.removesuffix('_event')}\ndata: {self.wire()}\n\n".encode()
