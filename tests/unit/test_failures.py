"""Which failures of an attempt are worth another one."""

import errno

import pytest
from sqlalchemy.exc import OperationalError

from app.errors import GitFailed, StepTimeout
from workers.steps.failures import is_retryable

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
