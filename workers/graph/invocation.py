"""What a session gives to its graph beside the state: LangGraph's `context` and `config`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import DEFAULT_RECURSION_LIMIT

from workers.graph.copies import Graph
from workers.graph.step_limits import DefaultStepLimit, StepLimit

OUT_OF_REACH = 10_007
"""LangGraph's limit where `LANGGRAPH_DEFAULT_RECURSION_LIMIT` says no other."""


@dataclass(frozen=True, slots=True)
class Invocation:
    context: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """`tags`, `metadata`, `configurable` and `recursion_limit`, those that are given."""

    def recursion_limit(self, graph: Graph) -> int:
        """The session's, or what the graph has by `with_config`, or LangGraph's."""
        return int(self._given_limit(graph) or DEFAULT_RECURSION_LIMIT)

    def config_of(self, graph: Graph, session_id: str, *, next_step: int, stop: int) -> RunnableConfig:
        """For a run that begins at `next_step` and may go as far as `stop`, as LangGraph counts supersteps.

        What the graph has by `with_config` is merged in when it runs.
        """
        limit = self.recursion_limit(graph)
        counted = StepLimit(limit) if self.limits_steps(graph) else DefaultStepLimit(limit)
        counted.taken = next_step + limit + 1 - stop
        config: RunnableConfig = {
            "configurable": {**self.config.get("configurable", {}), "thread_id": session_id},
            "recursion_limit": counted,
        }
        if tags := self.config.get("tags"):
            config["tags"] = list(tags)
        if metadata := self.config.get("metadata"):
            config["metadata"] = dict(metadata)
        return config

    def limits_steps(self, graph: Graph) -> bool:
        """Says whether the session or the graph has a limit of its own."""
        return self._given_limit(graph) is not None

    def counts_steps(self, graph: Graph) -> bool:
        """Says whether a run may come to its limit; nobody comes to LangGraph's own, unless it was lowered."""
        return self.limits_steps(graph) or DEFAULT_RECURSION_LIMIT < OUT_OF_REACH

    def _given_limit(self, graph: Graph) -> Any:
        return self.config.get("recursion_limit") or (graph.config or {}).get("recursion_limit")


NOTHING_GIVEN = Invocation()
