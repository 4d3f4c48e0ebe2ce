"""Which failures of an attempt are worth another one."""

import asyncio

import httpx
import openai

from app.errors import StepTimeout, Unavailable

RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
"""And all from 500 up: the server's advice is to try again."""

RETRYABLE: tuple[type[BaseException], ...] = (
    TimeoutError,
    ConnectionError,
    asyncio.IncompleteReadError,
    StepTimeout,
    Unavailable,
    httpx.TransportError,
    openai.APIConnectionError,
)


def is_retryable(error: BaseException) -> bool:
    """Time-outs, lost connections, 429 and 5xx; what a program got wrong once it gets wrong again."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_retryable(inner) for inner in error.exceptions)
    if isinstance(error, RETRYABLE):
        return True
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and (status in RETRYABLE_STATUS or status >= 500)


def describe(error: BaseException) -> str:
    """One line for the log."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
