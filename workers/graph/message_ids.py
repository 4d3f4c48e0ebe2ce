"""The ids of messages that a step returns without one: fixed when it completes, so that they stand in the log.

`add_messages` would make up a random id at each fold, and another one for each router that looks at the state
in between. The ids are drawn from the session, the step's superstep and path, and a number within the step, so
two of them never meet.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage, convert_to_messages
from langgraph.types import Command, Overwrite
from pydantic import BaseModel

from workers.graph.channels import adds_messages, gives_ids, makes_messages
from workers.graph.schemas import Builder

DEPTH = 50
"""Messages do not stand deeper, and a value may hold itself."""


@dataclass(frozen=True, slots=True)
class MessageChannels:
    """The channels whose reducer gives ids to messages; `making` those that also make messages of texts."""

    giving: frozenset[str]
    making: frozenset[str]
    plain: frozenset[str] = frozenset()
    """Those whose reducer is LangGraph's own."""

    @classmethod
    def of(cls, builder: Builder) -> "MessageChannels":
        channels = builder.channels.items()
        plain = frozenset(name for name, channel in channels if adds_messages(channel))
        giving = plain | {name for name, channel in channels if gives_ids(channel)}
        making = frozenset(name for name in giving if makes_messages(builder.channels[name]))
        return cls(giving, making, plain)

    def of_input(self) -> "MessageChannels":
        """Those in which the input's messages need ids of ours.

        In the others the fold gives them theirs, the same ones always: sessions that began before steps completed with
        ids hold results that name them.
        """
        return MessageChannels(self.giving - self.plain, self.making - self.plain)


class MessageIds:
    """Draws the ids of one step's messages, in the order in which they are written."""

    def __init__(self, channels: MessageChannels, *, session_id: str, superstep: int, path: str) -> None:
        self._channels = channels
        self._seed = f"{session_id}/{superstep}/{path}/"
        self._drawn = 0

    def in_returned(self, returned: Any) -> Any:
        """What a node returned, with ids; messages that are objects get theirs in place, as in LangGraph."""
        match returned:
            case Command(update=update) if update is not None:
                return replace(returned, update=self._in_update(update))
            case list() | tuple() if any(isinstance(item, Command) for item in returned):
                return [self.in_returned(item) for item in returned]
            case Command():
                return returned
            case _:
                return self._in_update(returned)

    def in_writes(self, writes: Sequence[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
        return tuple((name, self._in_channel(name, value)) for name, value in writes)

    def _in_update(self, update: Any) -> Any:
        if not self._channels.giving:
            return update
        if type(update) is dict:
            return {name: self._in_channel(name, value) for name, value in update.items()}
        if isinstance(update, list | tuple):
            if all(_is_write(item) for item in update):
                return type(update)(self.in_writes(update)) if type(update) in (list, tuple) else update
            return [self._in_update(item) for item in update] if type(update) is list else update
        if isinstance(update, BaseModel) or is_dataclass(update):
            for name in self._channels.giving:
                self._in_channel(name, getattr(update, name, None))
        return update

    def _in_channel(self, name: str, value: Any) -> Any:
        if name not in self._channels.giving:
            return value
        makes = name in self._channels.making
        if isinstance(value, Overwrite):
            return replace(value, value=self._in_value(value.value, makes=makes))
        return self._in_value(value, makes=makes)

    def _in_value(self, value: Any, *, makes: bool) -> Any:
        if makes:
            if type(value) is list:
                return [self._in_message(item) for item in value]
            return self._in_message(value)
        self._within(value)
        return value

    def _in_message(self, item: Any) -> Any:
        """One of a channel that makes messages of texts, pairs and dicts, too."""
        if isinstance(item, Mapping):
            is_message = "content" in item and ("role" in item or "type" in item)
            return {**item, "id": self._draw()} if is_message and not item.get("id") else item
        if isinstance(item, str) or _is_pair_of_texts(item):
            [item] = convert_to_messages([item])
        self._within(item)
        return item

    def _within(self, value: Any, depth: int = 0) -> None:
        """Wherever a message stands in the value of a channel whose reducer is the user's own."""
        if depth > DEPTH:
            return
        if isinstance(value, BaseMessage):
            if value.id is None:
                value.id = self._draw()
        elif isinstance(value, Mapping):
            for item in value.values():
                self._within(item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                self._within(item, depth + 1)

    def _draw(self) -> str:
        self._drawn += 1
        return str(UUID(bytes=hashlib.sha256(f"{self._seed}{self._drawn}".encode()).digest()[:16], version=5))


def _is_write(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _is_pair_of_texts(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)
