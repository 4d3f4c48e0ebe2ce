"""The connections of a process: how many there are, of which address, and which of them keep it waiting."""

import resource
from collections import Counter
from typing import Protocol

import structlog

from app import metrics
from app.config import Settings
from app.gateway.door.addresses import Addresses

logger = structlog.get_logger(__name__)

MAX_BACKLOG = 2048
"""After a restart all readers come at once; more than uvicorn's own would not be accepted in one round anyway."""
_ROUNDS = 3
"""So many times the backlog may be accepted before the first of these connections is counted."""
_SEND_TIMEOUTS = 3
"""Streams, which look after themselves, are to be the first who notice."""
_OTHER_FILES = 128
"""Sockets to Postgres and Redis, logs, what is imported late."""


def open_files(wanted: int) -> tuple[int, int]:
    """Returns how many connections a process may have, at most `wanted`, and how many may wait to be accepted.

    Both so that an accept never fails for want of a file; the process is allowed all files that it may have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY:
        return wanted, MAX_BACKLOG
    backlog = max(1, min(MAX_BACKLOG, soft // 8))
    allowed = max(1, soft - _ROUNDS * backlog - _OTHER_FILES)
    if allowed < wanted:
        logger.info("few files may be open (ulimit -n), so there are fewer connections", connections=allowed)
    return min(wanted, allowed), backlog


class Connection(Protocol):
    """What protocol.py makes of each."""

    def is_overdue(self, now: float) -> bool: ...

    def has_taken_some(self) -> bool: ...

    def give_up(self) -> None: ...


class Connections:
    """One for each process. Addresses are as `Addresses.limited` names them."""

    def __init__(self, settings: Settings, *, most: int) -> None:
        self.addresses = Addresses(settings)
        self._of_address = Counter[str]()
        self._most_of_address = settings.address_connections
        self._open = 0
        self._most = most
        self.heads = dict[Connection, float]()
        """From whom a head is waited for, since when: the longest first."""
        self.bodies = dict[Connection, None]()
        """From whom the rest of a body is waited for, be it only to be thrown away."""
        self.full = dict[Connection, float]()
        """Who takes too little of an answer, since when."""
        self._head_seconds = settings.head_timeout.total_seconds()
        self._full_seconds = _SEND_TIMEOUTS * settings.send_timeout.total_seconds()

    def came(self) -> bool:
        """Counts a connection; says whether there is room for it, perhaps since an idle one had to go."""
        self._open += 1
        if self._open <= self._most:
            return True
        longest = next(iter(self.heads), None)
        if longest is not None:
            self.heads.pop(longest)
            longest.give_up()
        refuse("connections")
        return longest is not None

    def left(self) -> None:
        self._open -= 1

    def enter(self, address: str | None) -> bool:
        """Counts a connection, or a request through a trusted proxy, of an address; says whether it may have it.

        What was counted must `leave`.
        """
        if address is None:
            return True
        if self._of_address[address] >= self._most_of_address:
            refuse("address_connections")
            return False
        self._of_address[address] += 1
        return True

    def leave(self, address: str | None) -> None:
        if address is None:
            return
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def forget(self, connection: Connection) -> None:
        self.heads.pop(connection, None)
        self.bodies.pop(connection, None)
        self.full.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Gives up those from whom something is overdue. It costs nothing where all is well."""
        while self.heads:
            connection, since = next(iter(self.heads.items()))
            if since > now - self._head_seconds:
                break
            self.heads.pop(connection)
            refuse("slow_head")
            connection.give_up()
        for connection in [one for one in self.bodies if one.is_overdue(now)]:
            self.bodies.pop(connection)
            refuse("slow_body")
            connection.give_up()
        for connection in [one for one, since in self.full.items() if since <= now - self._full_seconds]:
            self.full[connection] = now
            if not connection.has_taken_some():
                refuse("takes_nothing")
                connection.give_up()


REASONS = (
    *("connections", "address_connections", "large_head", "slow_head", "large_body", "slow_body", "many_values"),
    *("takes_nothing", "unauthenticated"),
)
_REFUSED = {reason: metrics.refused.labels(reason) for reason in REASONS}


def refuse(reason: str) -> None:
    """Counts what the door refused: one of REASONS."""
    _REFUSED[reason].inc()
