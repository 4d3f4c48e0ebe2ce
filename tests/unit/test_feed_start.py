"""Where a reader of the feed starts, and what it may see."""

import pytest

from app.errors import BadCursor, MissingScope, NotFound
from app.events.cursors import FeedCursor
from app.events.feed import ALL_STREAMS, FeedFilter, FeedHead
from app.events.types import StreamId
from app.gateway.streaming.feed_start import FeedStart, feed_start_of, place, visible
from app.principals.model import OWNER, Principal
from app.sessions.model import new_session_id

HEAD = FeedHead(epoch=2, bound=FeedCursor(2, 900), last=FeedCursor(2, 850, 70))
ALICE = Principal("k1", "alice", "acme", frozenset({"read"}))
AUDITOR = Principal("k2", "auditor", "acme", frozenset({"audit"}))


def test_what_survived_is_neither_replayed_nor_skipped() -> None:
    assert place(HEAD, FeedCursor(2, 800, 3)).reset is None
    assert place(HEAD, FeedCursor()).reset is None
    earlier = place(HEAD, FeedCursor(1, 5_000_000, 3))
    assert earlier.after == FeedCursor(1, 5_000_000, 3)
    assert earlier.reset is not None and earlier.reset.cursor == earlier.after and earlier.reset.epoch == 2


@pytest.mark.parametrize("cursor", [FeedCursor(3, 1, 1), FeedCursor(2, 900, 1), FeedCursor(2, 10**18, 1)])
def test_a_place_that_the_database_has_not_come_to_begins_again(cursor: FeedCursor) -> None:
    opening = place(HEAD, cursor)
    assert opening.after == FeedCursor()
    assert opening.reset is not None and opening.reset.cursor == FeedCursor() and str(cursor) in opening.reset.reason


def test_the_end_is_a_place_of_this_epoch() -> None:
    assert HEAD.cursor == FeedCursor(2, 850, 70)
    assert FeedHead(2, FeedCursor(2, 9), FeedCursor(1, 5_000_000, 3)).cursor == FeedCursor(2)


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
    assert start(after="0") == FeedStart(FeedCursor())
    assert start(after="1-2-3", last_event_id="1-7-8") == FeedStart(FeedCursor(1, 7, 8))
    assert start(tail="5", last_event_id="") == FeedStart(tail=5)
    for wrong in ({"after": "41"}, {"after": ""}, {"tail": "x"}, {"last_event_id": "41"}, {"after": "0", "tail": "1"}):
        with pytest.raises(BadCursor):
            start(**wrong)
