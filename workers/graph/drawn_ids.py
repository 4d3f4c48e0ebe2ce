"""The same ids in every fold of one log, where `add_messages` would make up random ones.

Steps complete with ids for their messages. What is left are texts and pairs that a reducer of the user's own hands to
`add_messages`: which of them become messages is not known before.
"""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.graph import message

_seed: ContextVar[str | None] = ContextVar("seed", default=None)
_drawn: ContextVar[int] = ContextVar("drawn", default=0)


@contextmanager
def drawn_ids(seed: str) -> Iterator[None]:
    """`seed` is another one for each fold of a session. Reducers run one after the other in here."""
    before, drawn = _seed.set(seed), _drawn.set(0)
    try:
        yield
    finally:
        _drawn.reset(drawn)
        _seed.reset(before)


class _Uuids:
    """Stands for the module `uuid` in LangGraph's module of messages."""

    def uuid4(self) -> UUID:
        seed = _seed.get()
        if seed is None:
            return uuid.uuid4()
        _drawn.set(number := _drawn.get() + 1)
        # A router looks at the state in its task, side by side with others, and counts by itself.
        config = var_child_runnable_config.get() or {}
        path = config.get("metadata", {}).get("langgraph_path", "")
        return UUID(bytes=hashlib.sha256(f"{seed}/{path}/{number}".encode()).digest()[:16], version=5)


vars(message)["uuid"] = _Uuids()  # which it uses for uuid4 alone
