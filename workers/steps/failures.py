"""Which failures are worth another try: of an attempt, and of what records it."""

import asyncio
import errno
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

import httpx
from langgraph.pregel._retry import _should_retry_on
from langgraph.types import RetryPolicy
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from app.config import Settings
from app.database import DATABASE_AWAY, is_away
from app.disk import found_no_room
from app.errors import GitFailed, NotNow, StepTimeout, Unavailable, describe
from app.sessions.model import StepRow
from workers.graph.loading import LoadedWorkflow

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
ROOM_DELAY = timedelta(seconds=10)
"""After it a step that found the disk full tries again."""
RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
"""And all from 500 up: the server's advice is to try again."""

RETRYABLE: tuple[type[BaseException], ...] = (
    TimeoutError,
    ConnectionError,
    asyncio.IncompleteReadError,
    StepTimeout,
    Unavailable,
    httpx.TransportError,
    GitFailed,  # in our own workspace: a disk that is full, a lock that was left
    *DATABASE_AWAY,
)
RETRYABLE_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_retryable(error: BaseException) -> bool:
    """Time-outs, lost connections, 429 and 5xx; what a program got wrong once it gets wrong again."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_retryable(inner) for inner in error.exceptions)
    if isinstance(error, (*RETRYABLE, *_lost_models())):
        return True
    if isinstance(error, OSError) and error.errno in RETRYABLE_ERRNO:
        return True
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and (status in RETRYABLE_STATUS or status >= 500)


def _lost_models() -> tuple[type[BaseException], ...]:
    """openai's own error, which only code that has imported openai raises; a worker's start need not wait for it."""
    if "openai" not in sys.modules:
        return ()
    from openai import APIConnectionError  # noqa: PLC0415

    return (APIConnectionError,)


class NextTry(NamedTuple):
    """Whether there may be one, and after what; None: the setting's back-off."""

    may_be: bool
    delay: timedelta | None = None


def next_try(error: BaseException, policies: Sequence[RetryPolicy], *, failures: int) -> NextTry:
    """After so many failures of a step, this one counted.

    The node's policies decide as in LangGraph: the first that names the error. Without one, and for what went wrong
    around the node, errors that may pass are tried again.
    """
    if not policies or isinstance(error, (StepTimeout, GitFailed)) or not isinstance(error, Exception):
        return NextTry(is_retryable(error))
    policy = next((policy for policy in policies if _should_retry_on(policy, error)), None)
    if policy is None or failures >= policy.max_attempts:
        return NextTry(may_be=False)
    seconds = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (failures - 1))
    jitter = random.uniform(0, 1) if policy.jitter else 0  # noqa: S311  # no secret
    return NextTry(True, timedelta(seconds=seconds + jitter))


def try_after(error: BaseException, workflow: LoadedWorkflow, step: StepRow) -> NextTry:
    """After an attempt of this step has failed with the error."""
    if isinstance(error, StepTimeout) and workflow.ends_in_time(step.agent):
        return NextTry(may_be=False)
    return next_try(error, workflow.retry_policies(step.agent), failures=step.failures + 1)


def for_want_of_room(error: BaseException, settings: Settings) -> NotNow | None:
    """What a step waits for that found the disk full; None where it failed for another reason."""
    if not found_no_room(error, settings.workspaces_dir):
        return None
    return NotNow(f"the disk is full: {describe(error)}", delay=ROOM_DELAY)


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Repeats a transaction while the database is away; whether an earlier try was committed shows at the next."""
    try:
        return await work()  # nearly always, and without what AsyncRetrying costs
    except Exception as error:
        if not is_away(error):
            raise
    return await AsyncRetrying(
        retry=retry_if_exception(is_away),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )(work)
