"""Which failures of an attempt are worth another one."""

import errno
from datetime import timedelta

import pytest
from langgraph.types import RetryPolicy
from sqlalchemy.exc import OperationalError

from app.errors import GitFailed, StepTimeout
from workers.steps.failures import NextTry, is_retryable, next_try

PASSING = [
    ConnectionResetError("reset"),
    StepTimeout(),
    GitFailed("No space left on device"),
    OSError(errno.ENOSPC, "No space left on device"),
    OperationalError("SELECT 1", {}, Exception("terminating connection")),
    ExceptionGroup("both", [TimeoutError(), ConnectionError()]),
]
LASTING = [
    ValueError("wrong"),
    OSError(errno.EACCES, "Permission denied"),
    FileNotFoundError("gone"),
    ExceptionGroup("one of them", [TimeoutError(), ValueError("wrong")]),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_a_program_got_wrong_once_it_gets_wrong_again(error: Exception) -> None:
    assert not is_retryable(error)


PLAIN = RetryPolicy(
    initial_interval=1, backoff_factor=3, max_interval=5, max_attempts=4, jitter=False, retry_on=ValueError
)


def test_a_policy_decides_as_in_langgraph() -> None:
    delays = [next_try(ValueError("wrong"), [PLAIN], failures=n).delay for n in (1, 2, 3)]
    assert delays == [timedelta(seconds=s) for s in (1, 3, 5)]
    assert next_try(ValueError("wrong"), [PLAIN], failures=4) == NextTry(may_be=False)
    assert next_try(ConnectionError("reset"), [PLAIN], failures=1) == NextTry(may_be=False), "it names ValueError only"
    named = [PLAIN, PLAIN._replace(retry_on=(KeyError, ConnectionError), max_attempts=2)]
    assert next_try(ConnectionError("reset"), named, failures=1).may_be
    assert not next_try(ConnectionError("reset"), named, failures=2).may_be
    jittered = next_try(ValueError("wrong"), [PLAIN._replace(jitter=True)], failures=1).delay
    assert jittered is not None
    assert timedelta(seconds=1) <= jittered <= timedelta(seconds=2)


@pytest.mark.parametrize("error", [StepTimeout(), GitFailed("No space left on device")], ids=repr)
def test_what_went_wrong_around_a_node_is_no_business_of_its_policy(error: Exception) -> None:
    assert next_try(error, [PLAIN], failures=1) == NextTry(may_be=True)
    assert next_try(ValueError("wrong"), [], failures=1) == NextTry(may_be=False)
