"""Limits on calls of models that hold across all workers: places, rate, and a circuit for each provider.

Everything lives in Redis and is a courtesy to the provider, not a promise of ours: without Redis calls go on.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from app.config import Settings
from app.errors import NotNow, Unavailable
from app.events.push import connect
from workers.models.gate import Provider

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
        self._places = settings.model_concurrency
        self._rate: RateLimitItem | None = parse(settings.model_rate) if settings.model_rate else None
        # A circuit is a limit on failures: while as many as it allows lie in the window, nothing is let through,
        # and when the oldest leaves it, one call is, whose failure closes the way again.
        window = max(1, round(settings.circuit_window.total_seconds()))
        self._circuit = RateLimitItemPerSecond(settings.circuit_failures, window, namespace="circuit")
        shared: Any = {"connection_pool": self._redis.connection_pool}
        self._windows = MovingWindowRateLimiter(
            RedisStorage(f"async+{redis_url}", implementation="redispy", key_prefix=PREFIX, **shared)
        )

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def admit(self, provider: Provider) -> AsyncIterator[None]:
        """One call; waits a while for its turn. Raises NotNow when the circuit is open, or no turn comes."""
        place: Lock | None = None
        try:
            await self._pass_circuit(provider)
            place = await self._take_place(provider)
            await self._await_rate(provider)
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
                await self._count_failure(provider)
            raise
        else:
            await self._forget_failures(provider)
        finally:
            if holding is not None:
                holding.cancel()
            await _leave(place)

    async def _pass_circuit(self, provider: Provider) -> None:
        if await self._windows.test(self._circuit, provider):
            return
        stats = await self._windows.get_window_stats(self._circuit, provider)
        delay = timedelta(seconds=max(1.0, stats.reset_time - time.time()))
        raise NotNow(f"{provider} is down: its last {self._circuit.amount} calls failed", delay=delay)

    async def _take_place(self, provider: Provider) -> Lock:
        """Redis' locks, numbered: whoever holds one of them has a place."""
        deadline = time.monotonic() + LONGEST_WAIT.total_seconds()
        while time.monotonic() < deadline:
            for number in range(self._places):
                place = self._redis.lock(f"{PREFIX}:{provider}:{number}", timeout=PLACE_SECONDS, thread_local=False)
                if await place.acquire(blocking=False):
                    return place
            await asyncio.sleep(LOOK_SECONDS)
        raise NotNow(f"all {self._places} places for calls to {provider} are taken", delay=timedelta(seconds=5))

    async def _await_rate(self, provider: Provider) -> None:
        if self._rate is None:
            return
        while not await self._windows.hit(self._rate, provider):
            stats = await self._windows.get_window_stats(self._rate, provider)
            delay = timedelta(seconds=max(0.05, stats.reset_time - time.time()))
            if delay > LONGEST_WAIT:
                raise NotNow(f"{provider} has had its {self._rate}", delay=delay)
            await asyncio.sleep(delay.total_seconds())

    async def _count_failure(self, provider: Provider) -> None:
        with contextlib.suppress(*BROKEN):
            await self._windows.hit(self._circuit, provider)

    async def _forget_failures(self, provider: Provider) -> None:
        with contextlib.suppress(*BROKEN):
            await self._windows.clear(self._circuit, provider)


async def _hold(place: Lock) -> None:
    """Until it is cancelled, or the place is lost, which costs no more than one call too many."""
    with contextlib.suppress(LockError, *BROKEN):
        while True:
            await asyncio.sleep(PLACE_SECONDS / 3)
            await place.reacquire()


async def _leave(place: Lock | None) -> None:
    if place is not None:
        with contextlib.suppress(LockError, *BROKEN):
            await place.release()
