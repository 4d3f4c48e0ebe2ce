"""Where a reader of the feed starts, and what it may see."""

from dataclasses import replace

import pytest

from app.errors import BadCursor, MissingScope, NotFound
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import ALL_STREAMS, FeedFilter, FeedHead
from app.events.types import StreamId
from app.gateway.streaming.feed_start import FeedStart, feed_start_of, place, visible
from app.principals.model import OWNER, Principal
from app.sessions.model import new_session_id

HEAD = FeedHead(2, bound=FeedPlace(2, 900), last=FeedPlace(2, 850, 70), epochs=frozenset({1, 2}))
ALICE = Principal("k1", "alice", "acme", frozenset({"read"}))
AUDITOR = Principal("k2", "auditor", "acme", frozenset({"audit"}))


def cursor(*place: int, known: int | None = None) -> FeedCursor:
    return FeedCursor(place[0] if known is None else known, FeedPlace(*place))


def test_what_survived_is_neither_replayed_nor_skipped() -> None:
    assert place(HEAD, cursor(2, 800, 3)).reset is None
    assert place(HEAD, cursor(0, 0, 0)).reset is None
    earlier = place(HEAD, cursor(1, 5_000_000, 3))
    assert earlier.after == FeedPlace(1, 5_000_000, 3)
    assert earlier.reset is not None and earlier.reset.cursor == earlier.cursor and earlier.reset.epoch == 2
    assert str(earlier.cursor) == "2.1-5000000-3"


def test_a_reader_that_catches_up_with_an_earlier_epoch_is_told_of_the_new_one_once() -> None:
    told = place(HEAD, cursor(1, 5_000_000, 3)).cursor
    assert place(HEAD, FeedCursor.parse(str(told))).reset is None


LOST = [cursor(3, 1, 1), cursor(2, 900, 1), cursor(2, 10**18, 1), cursor(1, 9, 9, known=3), cursor(0, 9, 9)]


@pytest.mark.parametrize("lost", LOST, ids=str)
def test_a_place_that_the_database_has_not_come_to_begins_again(lost: FeedCursor) -> None:
    opening = place(HEAD, lost)
    assert opening.after == FeedPlace()
    assert opening.reset is not None and opening.reset.cursor.place == FeedPlace() and str(lost) in opening.reset.reason
    assert place(HEAD, opening.reset.cursor).reset is None


def test_an_epoch_that_only_another_copy_had_is_no_earlier_one() -> None:
    """Two restores of one dump went on: what stands here was written after the dump, or is the other one's."""
    head = replace(HEAD, epoch=200, bound=FeedPlace(200, 900), epochs=frozenset({1, 200}))
    assert "never had" in str(place(head, cursor(100, 7, 7)).reset)


def test_the_end_is_a_place_of_this_epoch() -> None:
    assert HEAD.place == FeedPlace(2, 850, 70)
    assert replace(HEAD, bound=FeedPlace(2, 9), last=FeedPlace(1, 5_000_000, 3)).place == FeedPlace(2)


def test_a_key_sees_its_project_alone() -> None:
    mine = frozenset({"acme"})
    assert visible(ALICE, ALL_STREAMS) == FeedFilter(projects=mine, has_operators=False)
    assert visible(ALICE, FeedFilter(projects=mine)) == FeedFilter(projects=mine, has_operators=False)
    assert visible(AUDITOR, ALL_STREAMS) == FeedFilter(projects=mine, has_operators=True)
    for asked in ({"other"}, {"acme", "other"}):
        with pytest.raises(NotFound, match="there is no project 'other'"):
            visible(ALICE, FeedFilter(projects=frozenset(asked)))


def test_the_owner_sees_all_and_may_ask_for_less() -> None:
    assert visible(OWNER, ALL_STREAMS) == ALL_STREAMS
    asked = FeedFilter(projects=frozenset({"acme", "other"}))
    assert visible(OWNER, asked) == asked


def test_a_ticket_does_not_open_the_feed() -> None:
    ticket = Principal("k1", "alice", "acme", frozenset({"read"}), StreamId(new_session_id()))
    with pytest.raises(MissingScope):
        visible(ticket, ALL_STREAMS)


def test_starts_are_read() -> None:
    def start(**said: str) -> FeedStart:
        nothing = {"after": None, "tail": None, "since": None, "last_event_id": None}
        return feed_start_of(**(nothing | said), only=ALL_STREAMS)  # type: ignore[arg-type]  # of optional texts

    assert start() == FeedStart()
    assert start(after="latest") == FeedStart(latest=True)
    assert start(after="0") == FeedStart(cursor(0, 0, 0))
    assert start(after="1-2-3", last_event_id="1-7-8") == FeedStart(cursor(1, 7, 8))
    assert start(tail="5", last_event_id="") == FeedStart(tail=5)
    for wrong in ({"after": "41"}, {"after": ""}, {"tail": "x"}, {"last_event_id": "41"}, {"after": "0", "tail": "1"}):
        with pytest.raises(BadCursor):
            start(**wrong)
