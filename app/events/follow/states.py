"""States of streams, read together: the next query answers all that were asked for during the previous one."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from app.events.read import StreamState, no_stream, stream_states
from app.events.types import AnyStreamId


class StateReads:
    """A thousand readers that return at once cost a few queries."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._one_at_a_time = asyncio.Lock()
        self._asked = set[AnyStreamId]()
        self._next: asyncio.Task[dict[UUID, StreamState]] | None = None

    async def read(self, stream_id: AnyStreamId) -> StreamState:
        """Returns the state as it is after this call began. Raises NotFound."""
        found = await self.read_all([stream_id])
        if not found:
            raise no_stream(stream_id)
        return found[0]

    async def read_all(self, stream_ids: Sequence[AnyStreamId]) -> list[StreamState]:
        """Returns the states of those that exist, as they are after this call began."""
        self._asked.update(stream_ids)
        if self._next is None:
            self._next = asyncio.create_task(self._read(), name="states")
            # Seen, even if no reader waits.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Shielded: one reader that leaves must not take the answer from the others.
        states = await asyncio.shield(self._next)
        return [states[stream_id] for stream_id in stream_ids if stream_id in states]

    async def _read(self) -> dict[UUID, StreamState]:
        async with self._one_at_a_time:
            asked, self._asked, self._next = self._asked, set(), None
            async with self._engine.connect() as db:
                return {state.stream_id: state for state in await stream_states(db, list(asked))}
