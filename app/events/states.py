"""States of streams for readers that come all at once, as after a gateway died: they share queries."""

import asyncio
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import NotFound
from app.events.log import AnyStreamId, StreamState, stream_states

States = Mapping[AnyStreamId, StreamState]


class SharedStates:
    """One query at a time; who asks while one runs shares the next, so nobody gets what was read before he came."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")  # one statement, one round trip
        self._turn = asyncio.Lock()
        self._wanted: set[AnyStreamId] = set()
        self._next: asyncio.Task[States] | None = None

    async def read(self, stream_id: AnyStreamId) -> StreamState:
        """Raises NotFound."""
        self._wanted.add(stream_id)
        if self._next is None:
            self._next = asyncio.create_task(self._read(), name="stream-states")
        # Shielded: one reader that leaves must not take the answer from the others.
        states = await asyncio.shield(self._next)
        if stream_id not in states:
            raise NotFound(f"there is no stream {stream_id}")
        return states[stream_id]

    async def _read(self) -> States:
        async with self._turn:
            wanted, self._wanted, self._next = self._wanted, set(), None
            async with self._engine.connect() as db:
                return {state.stream_id: state for state in await stream_states(db, list(wanted))}
