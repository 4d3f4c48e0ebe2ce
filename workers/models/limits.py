"""Limits on calls of models that hold across all workers: places, rate, and a circuit for each provider.

Everything lives in Redis and is a courtesy to the provider, not a promise of ours: without Redis calls go on.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from app.config import Settings
from app.errors import NotNow, Unavailable
from app.events.push import connect
from workers.models.gate import Provider

if TYPE_CHECKING:
    from workers.models.rates import Rates

logger = structlog.get_logger(__name__)

PREFIX = "stellwerk:models"
PLACE_SECONDS = 30.0
"""A place whose worker died is free again after this."""
LOOK_SECONDS = 0.2
LONGEST_WAIT = timedelta(seconds=30)
"""In the step; after that the step itself waits, without a worker."""

BROKEN = (RedisError, OSError)
FAILURES = (Unavailable, TimeoutError)


class ModelLimits:
    """Belongs to one event loop."""

    def __init__(self, redis_url: str, settings: Settings) -> None:
        self._redis = connect(redis_url)
        self._redis_url = redis_url
        self._settings = settings
        self._places = settings.model_concurrency
        if settings.model_rate:
            self._rates  # noqa: B018 - one that cannot be read is told at the start

    @cached_property
    def _rates(self) -> "Rates":
        # Imported here: no worker's start need wait for it.
        from workers.models.rates import Rates  # noqa: PLC0415

        return Rates(self._redis, self._redis_url, self._settings, prefix=PREFIX, patience=LONGEST_WAIT)

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def admit(self, provider: Provider) -> AsyncIterator[None]:
        """One call; waits a while for its turn. Raises NotNow when the circuit is open, or no turn comes."""
        place: Lock | None = None
        try:
            await self._rates.pass_circuit(provider)
            place = await self._take_place(provider)
            await self._rates.await_turn(provider)
        except BROKEN as error:
            logger.warning("models are called without limits: no Redis", error=str(error))
        except BaseException:
            await _leave(place)
            raise
        holding = asyncio.create_task(_hold(place)) if place is not None else None
        try:
            yield
        except FAILURES as error:
            if not isinstance(error, NotNow):
                with contextlib.suppress(*BROKEN):
                    await self._rates.count_failure(provider)
            raise
        else:
            with contextlib.suppress(*BROKEN):
                await self._rates.forget_failures(provider)
        finally:
            if holding is not None:
                holding.cancel()
            await _leave(place)

    async def _take_place(self, provider: Provider) -> Lock:
        """Redis' locks, numbered: a call that holds one of them has a place."""
        deadline = time.monotonic() + LONGEST_WAIT.total_seconds()
        while time.monotonic() < deadline:
            for number in range(self._places):
                place = self._redis.lock(f"{PREFIX}:{provider}:{number}", timeout=PLACE_SECONDS, thread_local=False)
                if await place.acquire(blocking=False):
                    return place
            await asyncio.sleep(LOOK_SECONDS)
        raise NotNow(f"all {self._places} places for calls to {provider} are taken", delay=timedelta(seconds=5))


async def _hold(place: Lock) -> None:
    """Holds the place until it is cancelled, or the place is lost, which costs no more than one call too many."""
    with contextlib.suppress(LockError, *BROKEN):
        while True:
            await asyncio.sleep(PLACE_SECONDS / 3)
            await place.reacquire()


async def _leave(place: Lock | None) -> None:
    if place is not None:
        with contextlib.suppress(LockError, *BROKEN):
            await place.release()
