"""Limits of each project in one gateway process: requests a second, and open streams.

What shows the stack's own token belongs to no project and has no limit of these.
"""

from collections import Counter

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.config import Settings
from app.errors import TooMany
from app.principals.model import Principal


class Limits:
    def __init__(self, settings: Settings) -> None:
        self._rate = RateLimitItemPerSecond(settings.project_rate)
        self._requests = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._max_streams = settings.project_streams
        self._streams = Counter[str]()

    def count_request(self, principal: Principal) -> None:
        """Raises TooMany."""
        if principal.project is not None and not self._requests.hit(self._rate, principal.project):
            raise TooMany(
                f"the keys of {principal.project!r} make more than {self._rate.amount} requests a second"
                " (STELLWERK_PROJECT_RATE); slow down"
            )

    def check_stream(self, principal: Principal) -> None:
        """Raises TooMany where no further stream may be opened."""
        if principal.project is not None and self._streams[principal.project] >= self._max_streams:
            raise TooMany(
                f"the keys of {principal.project!r} hold {self._max_streams} streams open (STELLWERK_PROJECT_STREAMS);"
                " close one",
                retry_after=5,
            )

    def came(self, principal: Principal) -> None:
        if principal.project is not None:
            self._streams[principal.project] += 1

    def left(self, principal: Principal) -> None:
        if principal.project is not None:
            self._streams[principal.project] -= 1
