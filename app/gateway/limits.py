"""Limits in one gateway process: of each project requests a second and open streams, of each key open streams.

The stack's own token belongs to no project, and has a limit of its own for streams.
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
        self._max_streams_of_key = settings.key_streams
        self._max_streams_of_owner = settings.owner_streams
        self._streams = Counter[str]()
        self._streams_of_key = Counter[str | None]()
        """Those of the stack's own token are under None."""

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
        most, setting = self._max_streams_of_key, "STELLWERK_KEY_STREAMS"
        if principal.key_id is None:
            most, setting = self._max_streams_of_owner, "STELLWERK_OWNER_STREAMS"
        if self._streams_of_key[principal.key_id] >= most:
            raise TooMany(f"{principal.name!r} holds {most} streams open ({setting}); close one", retry_after=5)

    def came(self, principal: Principal) -> None:
        self._streams_of_key[principal.key_id] += 1
        if principal.project is not None:
            self._streams[principal.project] += 1

    def left(self, principal: Principal) -> None:
        self._streams_of_key[principal.key_id] -= 1
        if not self._streams_of_key[principal.key_id]:
            del self._streams_of_key[principal.key_id]  # keys come and go
        if principal.project is not None:
            self._streams[principal.project] -= 1
