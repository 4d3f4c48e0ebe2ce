"""The channels of a graph as a session keeps them between two supersteps."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.channels import BinaryOperatorAggregate, LastValue, UntrackedValue
from langgraph.channels.base import BaseChannel
from langgraph.errors import InvalidUpdateError
from langgraph.graph.message import add_messages

from workers.graph.schemas import Builder

Channel = BaseChannel[Any, Any, Any]


class CarriedValue(LastValue[Any]):
    """An `UntrackedValue` whose value goes along in the snapshot, since each superstep runs elsewhere.

    It is no subclass: LangGraph's loop drops the writes of one by its class.
    """

    __slots__ = ("guard",)

    guard: bool

    @classmethod
    def of(cls, channel: "UntrackedValue[Any]") -> "CarriedValue":
        carried = cls(channel.typ, channel.key)
        carried.guard = channel.guard
        return carried

    def copy(self) -> "CarriedValue":
        return self._guarded(super().copy())

    def from_checkpoint(self, checkpoint: Any) -> "CarriedValue":
        return self._guarded(super().from_checkpoint(checkpoint))

    def update(self, values: Sequence[Any]) -> bool:
        """Raises InvalidUpdateError for several values, with LangGraph's words, if the channel is guarded."""
        if not values:
            return False
        if len(values) != 1 and self.guard:
            raise InvalidUpdateError(
                f"At key '{self.key}': UntrackedValue(guard=True) can receive only one value per step. "
                "Use guard=False if you want to store any one of multiple values."
            )
        self.value = values[-1]
        return True

    def _guarded(self, channel: Any) -> "CarriedValue":
        channel.guard = self.guard
        carried: CarriedValue = channel
        return carried


def untracked(builder: Builder) -> frozenset[str]:
    """The names of the channels that LangGraph keeps in memory only."""
    return frozenset(name for name, channel in builder.channels.items() if isinstance(channel, UntrackedValue))


def carried(channel: Channel) -> Channel:
    return CarriedValue.of(channel) if isinstance(channel, UntrackedValue) else channel


def adds_messages(channel: Channel) -> bool:
    """Says whether the channel's reducer is LangGraph's own, which gives random ids to messages without one."""
    if not isinstance(channel, BinaryOperatorAggregate):
        return False
    # add_messages(format=…) is a partial of the undecorated function.
    reducer = channel.operator
    plain = reducer.func if isinstance(reducer, partial) else reducer
    return plain is add_messages or getattr(plain, "__module__", None) == add_messages.__module__


def gives_ids(channel: Channel) -> bool:
    """Says whether a message that is written without an id may have one afterwards, tried on a copy of the channel.

    A reducer that takes no list of messages may have messages somewhere else in its value.
    """
    if not isinstance(channel, BinaryOperatorAggregate):
        return False
    after = _after(channel, AIMessage("tried"))
    return after is None or any(message.id is not None for message in after)


def makes_messages(channel: Channel) -> bool:
    """Says whether a text that is written becomes a message, tried on a copy of the channel."""
    return isinstance(channel, BinaryOperatorAggregate) and bool(_after(channel, "tried"))


def _after(channel: "BinaryOperatorAggregate[Any]", written: Any) -> list[BaseMessage] | None:
    """The messages that the channel holds then; None for a reducer of the user's that expects something else."""
    tried = channel.copy()
    try:
        tried.update([[written]])
        value = tried.get()
    except Exception:  # noqa: BLE001  # whatever it raises
        return None
    return [item for item in value if isinstance(item, BaseMessage)] if isinstance(value, list) else None
