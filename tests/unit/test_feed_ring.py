"""The ring of the feed gives what a list of all frames would give, or says that it does not hold it; and the filter."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadCursor
from app.events.cursors import FeedCursor
from app.events.feed import ALL_STREAMS, FeedFilter, FeedFrame
from app.events.follow.feed_ring import FeedRing
from app.events.read import Filter

AGENTS = ("architect", "codesmith", None)
BEGIN = FeedCursor(1)
FILTERS = (ALL_STREAMS, *(FeedFilter(Filter(agent=frozenset({agent or "nobody"}))) for agent in AGENTS))


def frame(cursor: FeedCursor, agent: str | None = None, size: int = 10) -> FeedFrame:
    return FeedFrame(cursor, "agent_event", agent, None, None, "session", "default", None, f"{cursor} ".encode() * size)


@dataclass
class Model:
    """Everything that was offered, in order."""

    frames: list[FeedFrame] = field(default_factory=list)
    reached: FeedCursor = BEGIN

    def grow(self, steps: list[tuple[int, str | None, int]]) -> list[FeedFrame]:
        new = list[FeedFrame]()
        for step, agent, size in steps:
            new.append(frame(FeedCursor(1, self.reached.xid + step, len(self.frames) + len(new) + 1), agent, size))
            self.reached = new[-1].cursor
        self.frames += new
        return new


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(AGENTS), st.integers(1, 30)), max_size=8)


@given(
    st.lists(steps, max_size=8),
    st.integers(1, 12),
    st.integers(50, 2000),
    st.sampled_from(FILTERS),
    st.integers(1, 500),
)
def test_a_page_is_what_comes_next(
    offers: list[list[tuple[int, str | None, int]]],
    max_frames: int,
    max_bytes: int,
    only: FeedFilter,
    page_bytes: int,
) -> None:
    model, ring = Model(), FeedRing(max_frames=max_frames, max_bytes=max_bytes)
    assert not ring.covers(model.reached)
    ring.restart(model.reached)
    for offer in offers:
        ring.offer(model.grow(offer), reached=model.reached)
        held = [f for f in model.frames if ring.covers(f.cursor._replace(position=f.cursor.position - 1))]
        assert len(held) <= max_frames and sum(len(f.data) for f in held) <= max_bytes
        for after in (FeedCursor(1), *(f.cursor for f in model.frames), FeedCursor(2)):
            if not ring.covers(after):
                assert [f for f in model.frames if f.cursor > after] != held
                continue
            page = ring.page(after, only, epoch=1, max_bytes=page_bytes)
            rest = [f for f in model.frames if f.cursor > after and only.matches(f)]
            taken = [f for f in rest if f.cursor <= page.reached]
            assert page.frames == b"".join(f.data for f in taken)
            assert page.last == (taken[-1].cursor if taken else None)
            assert page.reached >= after and bool(taken) == bool(rest)
            assert len(taken) == 1 or len(page.frames) <= page_bytes
            if taken == rest:
                assert page.reached == max(after, model.reached)


def test_cursors_are_text_and_back() -> None:
    assert str(FeedCursor.parse("1-4711-42")) == "1-4711-42"
    assert FeedCursor.parse("0") == FeedCursor.parse("0-0-0") == FeedCursor()
    assert FeedCursor(1, 9, 9) < FeedCursor(1, 10, 1) < FeedCursor(2)
    for text in (
        "",
        "1",
        "41",
        "2.41",
        "1-2",
        "1-2-3-4",
        "a-1-1",
        "-1-1-1",
        "1-1-１",
        " 1-1-1",
        "1-" + "9" * 20 + "-1",
    ):
        with pytest.raises(BadCursor, match="1-4711-42"):
            FeedCursor.parse(text)
