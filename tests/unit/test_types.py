"""The encoder of events, and the wire."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import EventTooLarge, InvalidEvent
from app.events.encoding import RESERVED_KEYS, Recorded, encode, format_ts
from app.events.types import EVENT, AgentEvent, StoredEvent, StreamId, StreamKind
from app.sessions.facts import agent_event

STREAM = StreamId(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
LARGE = 1_000_000
INDIA = timezone(timedelta(hours=5, minutes=30))

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


def an_event(**changes: Any) -> AgentEvent:
    given: dict[str, Any] = {
        "agent": "codesmith",
        "phase": "progress",
        "msg": "📡 Calling Claude CLI for code generation",
        "progress": 0.3,
        "total": 1.0,
        "details": {},
        "step": 5,
        "attempt": 1,
    }
    return agent_event(**(given | changes))


def recorded(data: str, kind: StreamKind = "session", offset: int = 42) -> Recorded:
    ts = datetime(2026, 11, 3, 12, 30, 1, 7, UTC)
    return Recorded(STREAM, kind, offset, ts, "agent_event", "codesmith", "progress", data)


def test_the_stored_text_is_the_documented_one() -> None:
    assert encode(an_event(), max_bytes=LARGE) == (
        '{"t":"agent_event","agent":"codesmith","phase":"progress",'
        '"msg":"📡 Calling Claude CLI for code generation","progress":0.3,"total":1.0,"pct":0.3,'
        '"details":{},"step":5,"attempt":1}'
    )


@given(st.dictionaries(text, values))
def test_what_is_stored_is_what_was_said(details: dict[str, Any]) -> None:
    stored = encode(an_event(details=details), max_bytes=LARGE)
    assert stored.startswith('{"t":"agent_event"') and "\n" not in stored
    wire = recorded(stored).wire()
    assert wire.endswith(stored[1:])
    on_wire = EVENT.validate_json(wire)
    assert on_wire["t"] == "agent_event" and on_wire["details"] == details and on_wire["offset"] == 42


@pytest.mark.parametrize(
    ("kind", "key"), [("session", "session_id"), ("batch", "batch_id"), ("operators", "stream_id")]
)
def test_the_envelope_names_the_stream(kind: StreamKind, key: str) -> None:
    event = orjson.loads(recorded('{"t":"agent_event"}', kind).wire())
    assert event == {"offset": 42, key: str(STREAM), "ts": "2026-11-03T12:30:01.000007Z", "t": "agent_event"}
    assert list(event) == ["offset", key, "ts", "t"]


def test_a_frame() -> None:
    stored = '{"t":"agent_event","msg":"é"}'
    wire = recorded(stored).wire()
    assert recorded(stored).frame() == f"id: 42\nevent: agent\ndata: {wire}\n\n".encode()


@given(st.datetimes(datetime(1000, 1, 2), datetime(9998, 1, 1), timezones=st.just(INDIA)))  # noqa: DTZ001
def test_times_are_utc_with_microseconds(ts: datetime) -> None:
    written = format_ts(ts)
    assert len(written) == len("2026-11-03T12:30:01.000007Z") and written.endswith("Z")
    assert datetime.fromisoformat(written) == ts


@pytest.mark.parametrize(
    "details",
    [
        {"a": "b\x00"},
        {"a\x00": 1},
        {"a": "\ud800"},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 2**64},
        {"a": {1: "a key that is no text"}},
        {"a": object()},
        {"a": b"bytes"},
        {"a": {"b"}},
    ],
)
def test_what_json_or_postgres_would_change_is_refused(details: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        encode(an_event(details=details), max_bytes=LARGE)


def test_nesting_is_bounded() -> None:
    nested: Any = []
    for _ in range(1000):
        nested = [nested]
    with pytest.raises(InvalidEvent, match="deeper"):
        encode(an_event(details={"a": nested}), max_bytes=LARGE)


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_the_envelopes_keys_are_reserved(key: str) -> None:
    event = cast("StoredEvent", {**an_event(), key: 1})
    with pytest.raises(InvalidEvent, match=key):
        encode(event, max_bytes=LARGE)


def test_the_size_counts_bytes() -> None:
    event = an_event(msg="é" * 100)
    size = len(encode(event, max_bytes=LARGE).encode())
    encode(event, max_bytes=size)
    with pytest.raises(EventTooLarge, match=str(size)):
        encode(event, max_bytes=size - 1)


@pytest.mark.parametrize("total", [0, -1, float("nan")])
def test_a_total_is_positive(total: float) -> None:
    with pytest.raises(InvalidEvent):
        an_event(total=total)


def test_a_total_may_be_unknown() -> None:
    event = an_event(progress=7, total=None)
    assert event["pct"] is None and event["progress"] == 7


@pytest.mark.parametrize(
    "data",
    [
        '{"t":"workflow_event","node":"architect","delta":{"plan":[]}}',
        '{"t":"step_event","step":1,"agent":"a","status":"succeeded","attempt":1,"update":null}',
        '{"t":"session_event","status":"succeeded","reason":null,"result":{"patch":null}}',
        '{"t":"approval_event","step":1,"status":"requested","question":"ok?"}',
        '{"t":"batch_event","status":"running","total":2,"done":1,"failed":0,"running":1}',
        '{"t":"erased_event"}',
    ],
)
def test_every_kind_is_told_apart_by_t(data: str) -> None:
    assert EVENT.validate_json(recorded(data).wire())["t"] == orjson.loads(data)["t"]
