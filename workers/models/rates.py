"""How often a provider may be called, and when it is left alone: moving windows in Redis, by the library `limits`."""

import asyncio
import time
from datetime import timedelta
from typing import Any

from limits import RateLimitItem, RateLimitItemPerSecond, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis

from app.config import Settings
from app.errors import NotNow
from workers.models.gate import Provider


class Rates:
    """Belongs to one event loop. Raises RedisError or OSError without Redis."""

    def __init__(self, redis: Redis, redis_url: str, settings: Settings, *, prefix: str, patience: timedelta) -> None:
        self._patience = patience
        self._rate: RateLimitItem | None = parse(settings.model_rate) if settings.model_rate else None
        # A circuit is a limit on failures: while as many as it allows lie in the window, nothing is let through,
        # and when the oldest leaves it, one call is, whose failure closes the way again.
        window = max(1, round(settings.circuit_window.total_seconds()))
        self._circuit = RateLimitItemPerSecond(settings.circuit_failures, window, namespace="circuit")
        shared: Any = {"connection_pool": redis.connection_pool}
        self._windows = MovingWindowRateLimiter(
            RedisStorage(f"async+{redis_url}", implementation="redispy", key_prefix=prefix, **shared)
        )

    async def pass_circuit(self, provider: Provider) -> None:
        """Raises NotNow when the circuit is open."""
        if await self._windows.test(self._circuit, provider):
            return
        stats = await self._windows.get_window_stats(self._circuit, provider)
        delay = timedelta(seconds=max(1.0, stats.reset_time - time.time()))
        raise NotNow(f"{provider} is down: its last {self._circuit.amount} calls failed", delay=delay)

    async def await_turn(self, provider: Provider) -> None:
        """Raises NotNow when that would take longer than the patience."""
        if self._rate is None:
            return
        while not await self._windows.hit(self._rate, provider):
            stats = await self._windows.get_window_stats(self._rate, provider)
            delay = timedelta(seconds=max(0.05, stats.reset_time - time.time()))
            if delay > self._patience:
                raise NotNow(f"{provider} has had its {self._rate}", delay=delay)
            await asyncio.sleep(delay.total_seconds())

    async def count_failure(self, provider: Provider) -> None:
        await self._windows.hit(self._circuit, provider)

    async def forget_failures(self, provider: Provider) -> None:
        await self._windows.clear(self._circuit, provider)
