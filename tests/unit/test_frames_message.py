"""The message that a publish carries, and the ring that it feeds."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.encoding import Recorded
from app.events.follow.ring import Ring
from app.events.push import Frame, Message, decode_message, encode_message
from app.events.types import StreamId

STREAM = StreamId(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))


def frame(offset: int, size: int = 20) -> Frame:
    return Frame(offset, "agent_event", "codesmith", "progress", f"id: {offset}\n".encode().ljust(size, b"."))


frames = st.builds(
    Frame,
    offset=st.integers(1, 2**63 - 1),
    t=st.sampled_from(["agent_event", "step_event"]),
    agent=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    phase=st.none() | st.sampled_from(["think", "result"]),
    data=st.binary(),
)


@given(st.lists(frames, min_size=1))
def test_what_is_sliced_is_what_was_sent(sent: list[Frame]) -> None:
    message = decode_message(encode_message(sent, inline_bytes=1_000_000))
    assert message == Message(sent[0].offset, sent[-1].offset, tuple(sent))


def test_large_frames_stay_at_home() -> None:
    payload = encode_message([frame(3), frame(4)], inline_bytes=39)
    assert payload == b"[3,4]"
    assert decode_message(payload) == Message(3, 4)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b"\xff", b"[1,2,[3]]", b'[1,2,[[1,"t",null,null,5]]]\nabc'])
def test_what_we_did_not_write_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode_message(payload)


def test_what_a_newer_one_adds_is_ignored() -> None:
    payload = b'[1,1,[[1,"t",null,null,3,"more"]],{"more":1}]\nabc'
    assert decode_message(payload) == Message(1, 1, (Frame(1, "t", None, None, b"abc"),))


def test_a_frame_is_the_stored_text_behind_the_envelope() -> None:
    stored = '{"t":"agent_event","agent":"supervisor","msg":"🎯 Routing"}'
    event = Recorded(
        STREAM,
        "session",
        42,
        datetime(2026, 11, 3, tzinfo=UTC),
        "agent_event",
        "supervisor",
        "decision",
        stored,
    )
    assert Frame.of(event).data.decode() == (
        "id: 42\nevent: agent\n"
        f'data: {{"offset":42,"session_id":"{STREAM}","ts":"2026-11-03T00:00:00.000000Z",{stored[1:]}\n\n'
    )


def ring_at(after: int, *, max_frames: int = 10, max_bytes: int = 10_000) -> Ring:
    ring = Ring(max_frames=max_frames, max_bytes=max_bytes)
    ring.restart(after)
    return ring


def behind(ring: Ring) -> bool:
    """A call, so that the type checker does not take one look for the next."""
    return ring.is_lagging


def offsets(ring: Ring, after: int) -> list[int]:
    return [f.offset for f in ring.after(after, max_bytes=1_000_000)]


@given(st.permutations(range(6, 16)), st.lists(st.integers(1, 15)))
def test_order_and_repeats_do_not_matter(order: list[int], repeated: list[int]) -> None:
    ring = ring_at(5)
    for offset in order[:5] + repeated + order[5:] + repeated:
        ring.offer([frame(offset)])
    assert offsets(ring, 5) == list(range(6, 16))
    assert not behind(ring)


def test_a_gap_shows_until_it_is_filled() -> None:
    ring = ring_at(0)
    ring.offer([frame(1), frame(3)])
    assert behind(ring)
    assert offsets(ring, 0) == [1]
    ring.offer([frame(2)])
    assert not behind(ring)
    assert offsets(ring, 0) == [1, 2, 3]


@given(st.integers(1, 12), st.integers(20, 300))
def test_the_ring_is_bounded(max_frames: int, max_bytes: int) -> None:
    ring = ring_at(0, max_frames=max_frames, max_bytes=max_bytes)
    for offset in range(1, 40):
        ring.offer([frame(offset)])
        kept = ring.after(ring.first - 1, max_bytes=1_000_000)
        assert len(kept) <= max_frames and sum(len(f.data) for f in kept) <= max_bytes
        assert [f.offset for f in kept] == list(range(ring.first, offset + 1))
    assert not ring.covers(ring.first - 2)
    assert ring.covers(ring.first - 1)


def test_early_frames_are_bounded_and_not_forgotten() -> None:
    ring = ring_at(0, max_frames=3)
    ring.offer([frame(offset) for offset in range(2, 12)])
    assert behind(ring)
    ring.offer([frame(1)])
    assert offsets(ring, 0) == [2, 3, 4]
    assert behind(ring)  # 5 … 11 were heard of, and are to be fetched
    ring.offer([frame(offset) for offset in range(5, 12)])
    assert not behind(ring)


def test_a_restart_takes_what_came_early() -> None:
    ring = ring_at(0)
    ring.offer([frame(7), frame(8)])
    ring.restart(6)
    assert offsets(ring, 6) == [7, 8]
    assert not behind(ring)


def test_one_batch_is_bounded_but_never_empty() -> None:
    ring = ring_at(0)
    ring.offer([frame(1, size=900), frame(2, size=50), frame(3, size=50), frame(4, size=50)])
    assert [f.offset for f in ring.after(0, max_bytes=100)] == [1]
    assert [f.offset for f in ring.after(1, max_bytes=100)] == [2, 3]
