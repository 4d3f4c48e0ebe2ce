"""Which failures are worth another try: of an attempt, and of what records it."""

import asyncio
import errno
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from app.database import DATABASE_AWAY, is_away
from app.errors import GitFailed, StepTimeout, Unavailable

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
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
