"""The ring of the feed gives what a list of all frames would give, or says that it does not hold it; and the filter."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadCursor
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import ALL_STREAMS, FeedFilter, FeedFrame
from app.events.follow.feed_ring import FeedRing
from app.events.read import Filter

AGENTS = ("architect", "codesmith", None)
BEGIN = FeedPlace(1)
FILTERS = (ALL_STREAMS, *(FeedFilter(Filter(agent=frozenset({agent or "nobody"}))) for agent in AGENTS))


def frame(place: FeedPlace, agent: str | None = None, size: int = 10) -> FeedFrame:
    return FeedFrame(place, "agent_event", agent, None, None, "session", "default", None, f"{place} ".encode() * size)


@dataclass
class Model:
    """Everything that was offered, in order."""

    frames: list[FeedFrame] = field(default_factory=list)
    reached: FeedPlace = BEGIN

    def grow(self, steps: list[tuple[int, str | None, int]]) -> list[FeedFrame]:
        new = list[FeedFrame]()
        for step, agent, size in steps:
            new.append(frame(FeedPlace(1, self.reached.xid + step, len(self.frames) + len(new) + 1), agent, size))
            self.reached = new[-1].place
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
        held = [f for f in model.frames if ring.covers(f.place._replace(position=f.place.position - 1))]
        assert len(held) <= max_frames and sum(len(f.data) for f in held) <= max_bytes
        for after in (FeedPlace(1), *(f.place for f in model.frames), FeedPlace(2)):
            if not ring.covers(after):
                assert [f for f in model.frames if f.place > after] != held
                continue
            page = ring.page(after, only, epoch=1, max_bytes=page_bytes)
            rest = [f for f in model.frames if f.place > after and only.matches(f)]
            taken = [f for f in rest if f.place <= page.reached]
            assert page.frames == b"".join(f.data for f in taken)
            assert page.last == (taken[-1].place if taken else None)
            assert page.reached >= after and bool(taken) == bool(rest)
            assert len(taken) == 1 or len(page.frames) <= page_bytes
            if taken == rest:
                assert page.reached == max(after, model.reached)


def test_cursors_are_text_and_back() -> None:
    for known in ("1-4711-42", "1795000000-4711-42", "1795000000.1-4711-42", "2.1-4711-42"):
        assert str(FeedCursor.parse(known)) == known
    assert FeedCursor.parse("7.1-4711-42") == FeedCursor(7, FeedPlace(1, 4711, 42))
    assert FeedCursor.parse("7-4711-42") == FeedCursor(7, FeedPlace(7, 4711, 42))
    assert FeedCursor.parse("0") == FeedCursor.parse("0-0-0") == FeedCursor(0, FeedPlace())
    assert str(FeedCursor(7, FeedPlace())) == "0-0-0"  # the beginning is the same in every epoch
    assert FeedPlace(1, 9, 9) < FeedPlace(1, 10, 1) < FeedPlace(2)
    for text in (
        "",
        "1",
        "41",
        "2.41",
        "1-2",
        "1-2-3-4",
        "1.1-4711-42",
        ".1-4711-42",
        "02.1-4711-42",
        "a-1-1",
        "-1-1-1",
        "1-1-１",
        " 1-1-1",
        "1-" + "9" * 20 + "-1",
    ):
        with pytest.raises(BadCursor, match="1-4711-42"):
            FeedCursor.parse(text)
