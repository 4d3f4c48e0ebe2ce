"""One case of the differential suite: a graph, what goes in, what its questions are answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from workers.workflow import Node


@dataclass(frozen=True)
class Case:
    """Plain LangGraph says what is right; built when its module is imported, as in a worker's process.

    Nodes are deterministic, but for ids, and tell of every side effect with `effects.happened`.
    """

    name: str
    """A slug, unique in the corpus; the workflow's name on a worker."""
    kind: str
    graph: StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]
    input: Mapping[str, Any]
    """JSON, as `POST /sessions` takes it: a message is `{"role": "user", "content": "…"}`. The root state has no
    field `task` or `path`, which a session fills in."""
    answers: Sequence[Any] | Mapping[str, Any] = ()
    """JSON; in the order in which plain LangGraph asks, sorted by path where several questions are open. By
    question where one step asks several at once, which come in any order."""
    context: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """JSON: `tags`, `metadata`, `configurable`, `recursion_limit`."""
    raises: str | None = None
    """A part of the error's text, where plain LangGraph raises; for the kind `refused`, of what loading says."""
    refuses: str | None = None
    """A part of the error's text, where plain LangGraph ends well and we may say that we cannot, having paid once."""
    on_purpose: str | None = None
    """On workers it ends otherwise, on purpose: the words of the table in workers/README.md that say so."""
    misfits: Sequence[Any] = ()
    """JSON; what is refused at the door, at every question, before its answer is given."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """What the workflow declares of its nodes, where that is the point."""
