"""The text of cursors, and where a reader starts with one."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadCursor
from app.events.cursors import Cursor
from app.events.read import EVERYTHING, Filter, StreamState
from app.events.types import StreamId
from app.gateway.streaming.start import Opening, Start, place, start_of


@given(st.integers(1, 2**40), st.integers(0, 2**40))
def test_a_cursor_is_read_as_it_was_written(epoch: int, offset: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, offset))) == Cursor(epoch, offset)


def test_the_text_of_a_cursor() -> None:
    assert [str(Cursor(epoch, 41)) for epoch in (1, 2, 1_795_000_000)] == ["41", "2.41", "1795000000.41"]
    assert Cursor.parse("41") == Cursor(1, 41)
    assert Cursor.parse("41", epoch=3) == Cursor(3, 41)
    assert Cursor.parse("2.41", epoch=3) == Cursor(2, 41)


@pytest.mark.parametrize(
    "text", ["", "x", "2.", ".4", "1.2.3", "1.5", "0.5", "02.5", " 4", "4 ", "٤", "4\n", "1e3", "0x4", "9" * 31]
)
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor, match="after is"):
        Cursor.parse(text, what="after")


def state(*, epoch: int, earliest: int = 1, head: int = 10) -> StreamState:
    return StreamState(StreamId(uuid4()), "session", head, b"", earliest, False, "running", epoch)


def opened(text: str, of: StreamState, *, written_in: int | None = None, epoch: int | None = None) -> Opening:
    start = start_of(last_event_id=text, epoch=epoch)
    assert (start.wants_epoch_of(of) is None) == (written_in is None)
    return place(of, start, written_in=written_in)


def test_a_cursor_of_this_epoch_is_served_without_a_look_at_its_event() -> None:
    first = state(epoch=1)
    assert opened("4", first) == Opening(first, 4, Start().only)
    assert opened("2.4", state(epoch=2)).after == 4
    assert str(opened("2.4", state(epoch=2)).cursor) == "2.4"


def test_what_survived_a_restore_is_not_replayed_and_what_did_not_is_never_skipped() -> None:
    """The event at the cursor's offset was written in the reader's epoch or before, or it is another event."""
    after_a_restore = state(epoch=3)
    for cursor, written_in in (("8", 1), ("2.8", 1), ("2.8", 2)):
        found = opened(cursor, after_a_restore, written_in=written_in)
        assert (found.after, found.reset, str(found.cursor)) == (8, None, "3.8")
    for cursor, written_in in (("8", 2), ("8", 3), ("2.8", 3)):
        found = opened(cursor, after_a_restore, written_in=written_in)
        assert found.reset is not None
        assert (found.after, found.reset.cursor) == (0, "3.0")
        assert "is another event in epoch 3" in str(found.reset)


def test_of_what_has_expired_the_next_event_tells_whether_it_survived() -> None:
    pruned = state(epoch=3, earliest=5)
    assert opened("4", pruned, written_in=1).reset is None
    for written_in in (2, 3):
        assert opened("4", pruned, written_in=written_in).reset is not None
    start = start_of(last_event_id="10")
    all_gone = state(epoch=3, earliest=11)
    assert start.wants_epoch_of(all_gone) == 11  # where no event is: nobody knows
    assert place(all_gone, start).reset is not None


def test_what_is_not_known_is_never_skipped() -> None:
    """The event is gone since the look, or the cursor's epoch is one that only another copy of the database had."""
    start = start_of(last_event_id="2.4")
    assert start.wants_epoch_of(state(epoch=3)) == 4
    assert place(state(epoch=3), start, written_in=None).reset is not None


def test_zero_is_valid_in_every_epoch() -> None:
    for cursor in ("0", "2.0", "7.0"):
        assert opened(cursor, state(epoch=3)).reset is None


def test_a_cursor_of_a_later_epoch_or_past_the_head_cannot_be_served() -> None:
    assert opened("7.3", state(epoch=3)).reset is not None
    assert opened("11", state(epoch=3)).reset is not None
    assert opened("3.11", state(epoch=3)).reset is not None
    pruned = opened("3.2", state(epoch=3, earliest=5))
    assert pruned.reset is not None and (pruned.after, pruned.reset.cursor) == (4, "3.4")
    assert opened("3.4", state(epoch=3, earliest=5)).after == 4


def test_an_epoch_parameter_gives_a_bare_number_its_life() -> None:
    assert opened("4", state(epoch=2), epoch=2).after == 4
    assert opened("2.4", state(epoch=3), epoch=3, written_in=3).reset is not None


def test_without_a_filter_all_readers_want_the_same_everything() -> None:
    """Frames are joined once for all readers that want everything, which is told by this very object."""
    assert start_of(after="4").only is EVERYTHING
    assert start_of(t=["", ","], agent=[" "]).only is EVERYTHING
    assert start_of(t=["agent"]).only == Filter(t=frozenset({"agent_event"}))
