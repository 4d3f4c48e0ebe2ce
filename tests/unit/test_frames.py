"""SSE frames, read back by a parser that is not ours: whatever agents say, a frame is one event."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from httpx_sse import EventSource, ServerSentEvent
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InvalidEvent
from app.events import encoding
from app.events.cursors import Cursor, FeedCursor, FeedPlace
from app.events.encoding import Recorded, encode
from app.events.follow.updates import Away, Beat, Frames
from app.events.read import StreamState
from app.events.types import StreamId
from app.gateway.streaming.frames import (
    HEARTBEAT,
    away_frame,
    end_frame,
    frames_of,
    frames_with_beats,
    last_id_in,
    reset_frame,
    stream_frame,
)
from app.sessions.facts import agent_event

STREAM = StreamId(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
BEGIN = datetime(2026, 11, 3, 12, 30, 1, 7, UTC)
INJECTION = "x\n\nid: 7\nevent: end\ndata: {}\n\n"

hostile = st.sampled_from(
    [
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "data: x",
        "id: 9\n",
        "event: end\n\n",
        ":",
        "\u2028",
        "\u2029",
        "\x85",
        "\x0b",
        "\ufeff",
    ]
)
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
text = st.lists(hostile | any_text, max_size=5).map("".join)
details = st.dictionaries(text, text | st.lists(text) | st.dictionaries(text, text))


def recorded(offset: int, **said: Any) -> Recorded:
    given: dict[str, Any] = {
        "agent": "codesmith",
        "phase": "progress",
        "msg": "hello",
        "details": {},
        "progress": 0.5,
        "total": 1.0,
    }
    event = agent_event(**(given | said), step=1, attempt=1)
    item = encoding.item(STREAM, event, max_bytes=1_000_000)
    return Recorded(STREAM, "session", offset, BEGIN, item.t, item.agent, item.phase, item.data)


def parsed(content: bytes, cuts: Sequence[int] = ()) -> list[ServerSentEvent]:
    """What httpx-sse gives for these bytes, however they arrive."""

    def chunks() -> Iterator[bytes]:
        begin = 0
        for cut in sorted(cuts):
            yield content[begin:cut]
            begin = cut
        yield content[begin:]

    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=chunks())
    return list(EventSource(response).iter_sse())


@given(text, text, details, st.data())
@example(INJECTION, INJECTION, {INJECTION: INJECTION}, None)
def test_what_an_agent_says_stays_within_its_frame(
    agent: str, message: str, said: dict[str, Any], data: st.DataObject | None
) -> None:
    events = [recorded(offset, agent=agent, msg=message, details=said) for offset in (41, 42, 43)]
    content = b"".join(event.frame() for event in events)
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=4)) if data else []
    frames = parsed(content, cuts)
    assert [(frame.event, frame.id, frame.data) for frame in frames] == [
        ("agent", str(event.offset), event.wire()) for event in events
    ]
    for frame in frames:
        event = orjson.loads(frame.data)
        assert (event["agent"], event["msg"], event["details"]) == (agent, message, said)
        assert event["offset"] == int(frame.id) and event["session_id"] == str(STREAM)


@pytest.mark.parametrize("field", ["agent", "phase", "msg", "details"])
@pytest.mark.parametrize("bad", ["\x00", "a\x00b", "\ud800", "x\udfff", "\udc00\ud800"])
def test_what_no_reader_could_take_is_refused_in_every_field(field: str, bad: str) -> None:
    for value in [{"key": bad}, {bad: "value"}, {"deep": [{"er": bad}]}] if field == "details" else [bad]:
        with pytest.raises(InvalidEvent):
            recorded(1, **{field: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase": INJECTION},
        {"phase": None},
        {"agent": 7},
        {"agent": None},
        {"msg": b"bytes"},
        {"progress": "half"},
        {"progress": None},
        {"total": "1"},
        {"total": 1e-300, "progress": 1e300},
    ],
)
def test_what_the_published_schema_does_not_allow_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        recorded(1, **wrong)


@given(st.text(), st.text())
def test_any_text_is_stored_as_it_is_or_refused(key: str, value: str) -> None:
    """Lone surrogates and NUL included."""
    refused = any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in key + value)
    event = agent_event(
        agent="a", phase="think", msg=value, progress=1, total=None, details={key: value}, step=1, attempt=1
    )
    if refused:
        with pytest.raises(InvalidEvent):
            encode(event, max_bytes=1_000_000)
    else:
        assert orjson.loads(encode(event, max_bytes=1_000_000)) == event


@given(text, text)
def test_control_frames_hold_whatever_is_said_in_them(reason: str, status: str) -> None:
    state = StreamState(STREAM, "session", 42, bytes(32), 3, True, status, 1)
    content = stream_frame(state, Cursor(1, 7)) + reset_frame(reason, state) + end_frame(state)
    opening, reset, end = parsed(content)
    assert (opening.event, opening.id, opening.json()["status"]) == ("stream", "7", status)
    assert opening.retry is not None and opening.retry > 0
    assert (reset.event, reset.id, reset.json()) == ("reset", "2", {"reason": reason, "earliest": 3, "head": 42})
    assert (end.event, end.id, end.json()["head"]) == ("end", "42", 42)


CONTROL: list[bytes] = [
    frames_of(Frames(Cursor(1, 7), b"")),
    frames_of(Frames(FeedCursor(1, FeedPlace(1, 47, 11)), b"")),
    frames_of(Away("the gateway is stopping", Cursor(2, 7))),
    frames_of(Away(INJECTION, None)),
    away_frame("too many readers", FeedCursor(1, FeedPlace(1, 47, 11)), overloaded=True),
    frames_with_beats(Beat(7)),
    frames_with_beats(Beat(FeedPlace(1, 47, 11))),
]


@pytest.mark.parametrize("control", CONTROL)
def test_a_control_frame_is_one_block_with_data_and_without_an_offset(control: bytes) -> None:
    """Also behind heartbeats, which add nothing to it and move no cursor."""
    assert control.endswith(b"\n\n") and control.count(b"\n\n") == 1
    (frame,) = parsed(HEARTBEAT * 3 + control)
    assert isinstance(frame.json(), dict) and "offset" not in frame.json()
    assert (frame.event == "cursor") == (frame.id != "")
    assert (frame.event == "away") == (frame.retry is not None)


@given(st.lists(st.sampled_from([HEARTBEAT, *CONTROL, recorded(41).frame(), recorded(42, msg=INJECTION).frame()])))
def test_heartbeats_anywhere_hide_and_add_nothing(content: list[bytes]) -> None:
    without = [frame for frame in content if frame != HEARTBEAT]
    assert [(frame.event, frame.data) for frame in parsed(b"".join(content))] == [
        (frame.event, frame.data) for frame in parsed(b"".join(without))
    ]
    assert len(parsed(b"".join(content))) == len(without)


def test_the_id_of_the_last_frame_that_went_out() -> None:
    content = recorded(41).frame() + recorded(42, msg=INJECTION).frame()
    assert last_id_in(content) == last_id_in(content + HEARTBEAT) == "42"
    assert last_id_in(recorded(41).frame()) == "41"
    assert last_id_in(b"id: 2.41\nevent: cursor\ndata: {}\n\n") == "2.41"
    assert last_id_in(HEARTBEAT) is None and last_id_in(b"") is None
