"""The drawing of the transitions names what the table has, and a refusal says what the session is and what it lacks."""

import re
from collections.abc import Collection
from string import ascii_lowercase
from typing import get_args

import pytest

from app.errors import Conflict
from app.events.types import SessionStatus, StepStatus
from app.sessions import transitions
from app.sessions.transitions import SESSION, STEP, SessionMove, StepMove, after, may, may_step

LEGEND = re.compile(r"^  ([a-z])  (\w+) ", re.MULTILINE)
OF_SESSION, OF_STEP = ascii_lowercase[:10], ascii_lowercase[10:20]
REFUSED = [(move, status) for move in SESSION for status in get_args(SessionStatus) if not may(move, status)]


def drawings() -> tuple[str, str]:
    """A session's and a step's, each with its legend."""
    session, _, step = (transitions.__doc__ or "").partition("\nA step:\n")
    return session, step


@pytest.mark.parametrize(
    ("drawing", "letters", "moves"),
    [(drawings()[0], OF_SESSION, ["create", *SESSION]), (drawings()[1], OF_STEP, ["queue", *STEP])],
)
def test_each_letter_of_the_drawing_is_a_move_of_the_table(drawing: str, letters: str, moves: Collection[str]) -> None:
    legend = LEGEND.findall(drawing)
    assert legend == list(zip(letters, moves, strict=True))
    picture = drawing[: drawing.index(f"\n  {letters[0]}  ")]
    assert not set(letters) - set(re.findall(r"\b[a-z]\b", picture))


@pytest.mark.parametrize(("drawing", "statuses"), [*zip(drawings(), (SessionStatus, StepStatus), strict=True)])
def test_each_status_is_in_the_drawing(drawing: str, statuses: object) -> None:
    assert not set(get_args(statuses)) - set(re.findall(r"\w+", drawing))


def test_the_tables_have_every_move_and_no_other_status() -> None:
    assert list(SESSION) == list(get_args(SessionMove))
    assert list(STEP) == list(get_args(StepMove))
    for table, statuses in ((SESSION, get_args(SessionStatus)), (STEP, get_args(StepStatus))):
        assert all({*then, *then.values()} <= {*statuses} for then in table.values())


def test_nothing_but_an_end_leaves_paused() -> None:
    leaving = {move for move in SESSION if may(move, "paused") and after(move, "paused") != "paused"}
    assert leaving == {"fail", "cancel"}


def test_a_step_that_has_ended_goes_on_by_a_retry_only() -> None:
    ended = set(get_args(StepStatus)) - transitions.OPEN_STEP
    assert {move for move in STEP for status in ended if may_step(move, status)} == {"retry"}


@pytest.mark.parametrize(
    ("move", "status", "message"),
    [
        ("retry", "succeeded", "the session has succeeded; only one that has failed can be retried"),
        ("retry", "running", "the session is running; only one that has failed can be retried"),
        ("cancel", "failed", "the session has failed; only one that has not ended can be cancelled"),
        ("fail", "cancelled", "the session was cancelled; only one that has not ended can fail"),
        (
            "fold",
            "paused",
            "the session is paused; only one that has not begun, is running or is waiting can be folded",
        ),
        (
            "answer",
            "created",
            "the session has not begun; only one that is running, is waiting or is paused can take an answer",
        ),
        ("ask", "paused", "the session is paused; only one that is running can begin to wait for an answer"),
    ],
)
def test_a_refusal_says_what_the_session_is_and_what_would_be_needed(
    move: SessionMove, status: SessionStatus, message: str
) -> None:
    with pytest.raises(Conflict, match=f"^{message}$"):
        after(move, status)


@pytest.mark.parametrize(("move", "status"), REFUSED)
def test_what_may_not_be_has_no_status_after_it(move: SessionMove, status: SessionStatus) -> None:
    with pytest.raises(Conflict, match=r"^the session (is|has|was) [a-z ]+; only one that .+ can .+"):
        after(move, status)
