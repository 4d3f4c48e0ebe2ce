"""Clients of OpenAI-compatible servers, and what their errors mean for a step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from importlib import import_module
from time import time
from typing import TYPE_CHECKING, Any, assert_never

import httpx2
from pydantic import ValidationError

from app.config import Settings
from app.errors import ModelFaltered, ModelRefused, NotNow
from workers.models.gate import Provider

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

NO_KEY = "none"
"""For servers at home, which ask for none; the client wants one."""
NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
BROKEN_ANSWERS = (
    httpx2.RemoteProtocolError,
    ValidationError,
    ValueError,  # JSON that is none, also in the middle of a stream
)


def model_of(provider: Provider, settings: Settings) -> str:
    match provider:
        case "openai":
            return settings.openai_model
        case "perplexity":
            return settings.perplexity_model
        case "claude":
            return settings.claude_model or "default"
        case other:
            assert_never(other)


@asynccontextmanager
async def client_of(provider: Provider, settings: Settings) -> AsyncIterator["AsyncOpenAI"]:
    """Made for one call, for a step makes few. It tries nothing again by itself: each try is to be in the log.

    Errors come out as what a step does about them: ModelRefused (it fails), ModelFaltered (another attempt),
    NotNow (it waits, and no attempt is counted).
    """
    # Not at the start, which every worker would wait for; and in a thread, so the event loop does not wait either.
    await asyncio.to_thread(import_module, "openai")
    import openai  # noqa: PLC0415

    is_openai = provider == "openai"
    key = settings.openai_api_key if is_openai else settings.perplexity_api_key
    base_url = (settings.openai_base_url or "https://api.openai.com/v1") if is_openai else settings.perplexity_base_url
    limit = settings.model_time_limit
    client = openai.AsyncOpenAI(
        api_key=key.get_secret_value() if key else NO_KEY,
        base_url=base_url,
        max_retries=0,
        timeout=limit.total_seconds(),  # the client's own is for each read
    )
    async with client:
        try:
            async with asyncio.timeout(limit.total_seconds()):
                yield client
        except (TimeoutError, openai.APITimeoutError) as error:
            raise ModelFaltered(f"{provider} took longer than {limit}") from error
        except openai.APIStatusError as error:
            raise _meaning(provider, error) from error
        except openai.APIConnectionError as error:
            raise ModelFaltered(f"{provider} cannot be reached at {base_url}: {error.__cause__ or error}") from error
        except openai.ContentFilterFinishReasonError as error:
            raise ModelRefused(f"{provider} filtered the answer: {error}") from error
        except openai.APIError as error:  # inside of a stream
            raise ModelFaltered(f"{provider} broke off: {error}") from error
        except BROKEN_ANSWERS as error:
            raise ModelFaltered(f"{provider} gave no whole answer: {type(error).__name__}: {error}") from error


def _meaning(provider: Provider, error: "APIStatusError") -> Exception:
    said = f"{provider} answered {error.status_code}: {error.message}"
    wait = _advice(error.response.headers)
    match error.status_code:
        case 429 if error.code in NO_QUOTA:
            return ModelRefused(f"{said}; the account has nothing left")
        case 429 | 503 if wait is not None:
            return NotNow(said, delay=wait)
        case 401 | 403:
            return ModelRefused(f"{said}; is {provider.upper()}_API_KEY right?")
        case 408 | 409 | 425 | 429:
            return ModelFaltered(said)
        case status if status >= 500:
            return ModelFaltered(said)
        case _:
            return ModelRefused(said)


def _advice(headers: Any) -> timedelta | None:
    """Retry-After, in its three spellings."""
    if milliseconds := headers.get("retry-after-ms"):
        return timedelta(milliseconds=float(milliseconds))
    after = headers.get("retry-after")
    if after is None:
        return None
    try:
        return timedelta(seconds=max(0.0, float(after)))
    except ValueError:
        return timedelta(seconds=max(0.0, parsedate_to_datetime(after).timestamp() - time()))
