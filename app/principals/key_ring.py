"""The keys in force, in memory: every request looks one up, so that must not cost a query.

A key that is revoked is refused within FRESH_SECONDS: at once where Redis tells of it, else at the next read. What
was not read for so long is not believed any more.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cancelling import asked_to_end
from app.database import is_away
from app.errors import Unavailable
from app.principals import repository
from app.principals.model import DEPLOYMENT, Key, Principal, SignOuts
from app.principals.secrets import digest_of

logger = structlog.get_logger(__name__)

READ_EVERY_SECONDS = 3.0
FRESH_SECONDS = 8.0
"""A revoked key must be refused within ten, and it is a while until all streams have noticed."""
READ_SECONDS = 2.0
LOG_SECONDS = 30.0
LOOK_SECONDS = 0.5
"""How often it is seen that a key has expired."""
PAUSE_SECONDS = 0.1
"""Between two reads that unknown keys ask for, at least: they must not become the database's load."""
LONGEST_PAUSE_SECONDS = 1.0
PAUSES_FOR_A_READ = 3
"""A pause is so many times as long as the read before it took, since with many keys it holds up the event loop."""


class _Held(NamedTuple):
    principal: Principal
    until: float


class KeyRing:
    """One for each process. `on_lapse` is called when keys are no longer in force that were before."""

    def __init__(self, engine: AsyncEngine, on_lapse: Callable[[], object] = lambda: None) -> None:
        self._engine = engine
        self._on_lapse = on_lapse
        self._clock = asyncio.get_running_loop().time
        self._by_digest = dict[bytes, _Held]()
        self._by_id = dict[str, _Held]()
        self._sign_outs = dict[str, int]()
        self._read_at = -math.inf
        self._rung = asyncio.Event()
        self._was_read = asyncio.Event()
        self._quiet_until = -math.inf
        self._reading: asyncio.Task[None] | None = None
        """A read that has not begun: who asks now may join it."""
        self._begun: asyncio.Task[None] | None = None
        """The last one that has."""

    def find(self, key: str) -> Principal | None:
        """Who holds this key; None: it is not in force, or not known yet. Raises Unavailable."""
        return self._in_force(self._by_digest.get(digest_of(key)))

    def by_id(self, key_id: str) -> Principal | None:
        """Whose key this is; None: it is not in force. Raises Unavailable."""
        return self._in_force(self._by_id.get(key_id))

    def holds(self, key_id: str) -> bool:
        """Says whether the key is known to be in force."""
        held = self._by_id.get(key_id)
        now = self._clock()
        return held is not None and now < held.until and now < self._read_at + FRESH_SECONDS

    def sign_outs(self, project: str | None) -> SignOuts:
        """How often browsers were signed out, as it was last read; a project of None is every project's."""
        of_project = 0 if project is None else self._sign_outs.get(project, 0)
        return SignOuts(self._sign_outs.get(DEPLOYMENT, 0), of_project)

    async def read(self) -> None:
        """Reads all keys, together with all who ask for it now. Raises Unavailable, and what the database raises."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(after=self._begun), name="keys")
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            # The driver may take longer to give its statement up.
            async with asyncio.timeout(PAUSE_SECONDS + READ_SECONDS):
                await asyncio.shield(self._reading)
        except TimeoutError:
            raise Unavailable("the keys could not be read in time; try again") from None

    def heard(self, _: object) -> None:
        """Redis says that there is something new; what, the database says."""
        self._rung.set()

    def doubt(self) -> None:
        """Something may have been missed."""
        self._rung.set()

    async def run(self) -> None:
        """Keeps up until cancelled."""
        quiet_until = 0.0
        while not asked_to_end():
            if self._rung.is_set() or self._clock() >= self._read_at + READ_EVERY_SECONDS:
                self._rung.clear()
                try:
                    await self.read()
                except Exception as error:
                    if not (is_away(error) or isinstance(error, Unavailable)):
                        raise
                    if self._clock() >= quiet_until:
                        logger.warning("keys cannot be read", error=str(error))
                        quiet_until = self._clock() + LOG_SECONDS
            await _wait(self._rung)

    async def watch(self) -> None:
        """Tells of keys that are no longer in force, and of browsers that were signed out, until cancelled.

        A read that hangs does not hold it up.
        """
        known, sign_outs = set[str](), self._sign_outs
        while not asked_to_end():
            self._was_read.clear()
            now = {key_id for key_id in self._by_id if self.holds(key_id)}
            if known - now or sign_outs != self._sign_outs:
                self._on_lapse()
            known, sign_outs = now, self._sign_outs
            await _wait(self._was_read)

    def _in_force(self, held: _Held | None) -> Principal | None:
        now = self._clock()
        if now >= self._read_at + FRESH_SECONDS:
            raise Unavailable("the database does not answer, so no key can be checked; try again")
        return held.principal if held is not None and now < held.until else None

    async def _read(self, *, after: "asyncio.Task[None] | None") -> None:
        if after is not None:
            # One after the other, else a storm of unknown keys would take all connections. One that hangs gives its
            # connection up late, so it is not waited for any longer than it may take.
            await asyncio.wait({after}, timeout=READ_SECONDS)
        await asyncio.sleep(self._quiet_until - self._clock())
        began = self._clock()
        # Who asks from now on may ask for what this read does not see.
        self._begun, self._reading = self._reading, None
        try:
            async with asyncio.timeout(READ_SECONDS), self._engine.connect() as db:
                found = await repository.keys_in_force(db)
                sign_outs = await repository.sign_outs(db)
            self._keep(found, sign_outs, began)
        finally:
            pause = max(PAUSE_SECONDS, PAUSES_FOR_A_READ * (self._clock() - began))
            self._quiet_until = self._clock() + min(pause, LONGEST_PAUSE_SECONDS)

    def _keep(self, found: list[tuple[Key, bytes, float]], sign_outs: dict[str, int], began: float) -> None:
        held = [(key, digest, _Held(key.principal, began + seconds)) for key, digest, seconds in found]
        if began < self._read_at:
            return  # a later read was quicker
        self._read_at = began
        self._by_digest = {digest: one for _, digest, one in held}
        self._by_id = {str(key.key_id): one for key, _, one in held}
        self._sign_outs = sign_outs
        self._was_read.set()


async def _wait(event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await event.wait()
