"""What the nodes of a random graph did while it ran."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig


class NodeBroke(Exception):
    """A node was told to raise."""


class RouterBroke(Exception):
    """A router was told to raise."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A call of a node: where it stood and what it saw."""

    node: str
    step: int
    place: str
    """What LangGraph says of it: step, path, triggers."""
    saw: str


MOST_CALLS = 500


@dataclass
class World:
    calls: list[Seen] = field(default_factory=list)
    features: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        self.calls.clear()
        self.features.clear()

    def record(self, node: str, saw: str, config: RunnableConfig) -> None:
        assert len(self.calls) < MOST_CALLS, "the graph does not end"
        metadata: dict[str, Any] = config.get("metadata") or {}
        step = metadata.get("langgraph_step", 0)
        triggers = sorted(metadata.get("langgraph_triggers", ()))
        place = f"{step} {metadata.get('langgraph_path')} {triggers} of {metadata.get('langgraph_node')}"
        self.calls.append(Seen(node, step, place, saw))
        if any(trigger.startswith("join:") for trigger in triggers):
            self.features["join"] += 1
