"""Names as an address gives them."""

import pytest

from app.errors import BadQuery
from app.events.types import KINDS
from app.gateway.streaming.filters import event_statuses_of, names_of, only_of, session_statuses_of


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([], set()),
        (["", " ", ",", " , "], set()),
        (["a,b", "c"], {"a", "b", "c"}),
        ([" a , b ", "a"], {"a", "b"}),
        ([r"smith\, the elder,b"], {"smith, the elder", "b"}),
        ([r"a\\,b", r"c\d"], {"a\\", "b", "cd"}),
        (["a\nb,é📡"], {"a\nb", "é📡"}),
    ],
)
def test_names(given: list[str], names: set[str]) -> None:
    assert names_of(given) == names


@pytest.mark.parametrize("given", ["a\\", "a,\\", "\\\\\\"])
def test_a_lone_backslash_is_refused(given: str) -> None:
    with pytest.raises(BadQuery, match="ends with a backslash"):
        names_of([given])


def test_all_that_there_is_can_be_asked_for_in_both_forms() -> None:
    short = [kind.removesuffix("_event") for kind in KINDS]
    assert only_of(t=KINDS, agent=(), phase=()).t == only_of(t=short, agent=(), phase=()).t == KINDS
    assert session_statuses_of(["paused,failed"]) == {"paused", "failed"}
    assert event_statuses_of(["lost", "requested"]) == {"lost", "requested"}
    with pytest.raises(BadQuery) as refused:
        session_statuses_of(["lost"])
    assert "cancelled" in refused.value.allowed
