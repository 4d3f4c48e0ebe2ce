"""What a module of workflows declares: `WORKFLOWS: dict[str, Workflow]`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class Node:
    """How the steps of one graph node run. Unset limits come from the settings."""

    queue: str = DEFAULT_QUEUE
    time_limit: timedelta | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A LangGraph graph that Stellwerk runs, one Celery task for each node execution.

    `version` names what a session was started with; unset, it is a digest of nodes, edges and schemas, so a
    changed graph does not silently go on with sessions of the old one.
    """

    graph: StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]
    version: str | None = None
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        return self.nodes.get(name, Node())
