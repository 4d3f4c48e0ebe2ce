"""Hearing that sessions were cancelled, so that their attempts end at once. A doorbell: their leases tell the truth."""

import asyncio
from dataclasses import dataclass, field

from app.events.seals import Published
from workers.steps.runner import Runner

PAUSE_SECONDS = 1.0
"""Between two looks at leases out of doubt: messages that cannot be believed may come in a flood."""


@dataclass
class Cancellations:
    """Listens on push's channel of cancelled sessions."""

    runner: Runner
    _quiet_until: float = field(default=float("-inf"))

    def heard(self, news: Published) -> None:
        """Raises ValueError (of which a UnicodeDecodeError is one) for what is no id."""
        self.runner.check_leases(news.payload.decode())

    def doubt(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + PAUSE_SECONDS
            self.runner.heartbeat.check_now()
