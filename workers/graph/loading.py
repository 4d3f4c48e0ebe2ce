"""The workflows that this worker serves, loaded from their modules."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any

from langgraph.channels import DeltaChannel
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy

from app.errors import BadWorkflow
from workers.graph.channels import untracked
from workers.graph.codec import Codec
from workers.graph.copies import Graph, attempt_copy, orchestrating_copy
from workers.graph.invocation import Invocation
from workers.graph.message_ids import MessageChannels
from workers.graph.schemas import Builder, shape_digest, state_types, subgraphs
from workers.graph.serializer import ExactSerializer
from workers.workflow import Node, Workflow


@dataclass(frozen=True, eq=False)
class LoadedWorkflow:
    """A workflow with what is derived from its graph; graphs are compiled when they are first needed."""

    name: str
    workflow: Workflow
    allowed_types: tuple[type, ...] = ()

    @cached_property
    def builder(self) -> Builder:
        graph = self.workflow.graph
        return graph.builder if isinstance(graph, CompiledStateGraph) else graph

    @cached_property
    def version(self) -> str:
        return self.workflow.version or shape_digest(self.builder)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.builder.nodes)

    @property
    def queues(self) -> frozenset[str]:
        return frozenset(self.node(name).queue for name in self.nodes)

    @cached_property
    def input_fields(self) -> frozenset[str]:
        """The names in the graph's input schema."""
        return frozenset(self.builder.schemas[self.builder.input_schema]) - {"__root__"}

    def node(self, name: str) -> Node:
        return self.workflow.node(name)

    @cached_property
    def state_types(self) -> set[type]:
        """What snapshots and updates may hold besides the built-in types."""
        return state_types(self.builder) | set(self.allowed_types)

    @cached_property
    def serializer(self) -> ExactSerializer:
        return ExactSerializer(self.state_types)

    @cached_property
    def codec(self) -> Codec:
        return Codec(self.serializer)

    @cached_property
    def orchestration(self) -> Graph:
        return orchestrating_copy(self.builder)

    @cached_property
    def compiled(self) -> Graph:
        """The user's graph."""
        graph = self.workflow.graph
        return graph if isinstance(graph, CompiledStateGraph) else graph.compile()

    @cached_property
    def attempts(self) -> Graph:
        """What attempts run."""
        return attempt_copy(self.compiled)

    def retry_policies(self, name: str) -> Sequence[RetryPolicy]:
        """What the graph says about errors of this node; nothing where the workflow's `Node` says it."""
        if self.node(name).max_attempts is not None:
            return ()
        return self.compiled.nodes[name].retry_policy or self.compiled.retry_policy or ()

    def max_attempts(self, name: str) -> int | None:
        """None: the setting's."""
        return self.node(name).max_attempts or max((p.max_attempts for p in self.retry_policies(name)), default=None)

    def time_limit(self, name: str) -> timedelta | None:
        """None: the setting's. A time-out of the node itself (`add_node(timeout=…)`) is LangGraph's to keep."""
        step_timeout = self.compiled.step_timeout
        return self.node(name).time_limit or (timedelta(seconds=step_timeout) if step_timeout else None)

    @cached_property
    def message_channels(self) -> MessageChannels:
        return MessageChannels.of(self.builder)

    @cached_property
    def untracked(self) -> frozenset[str]:
        """The channels that LangGraph keeps in memory only."""
        return untracked(self.builder)

    def notices_answers(self, invocation: Invocation) -> bool:
        """Says whether it makes a difference to the graph that LangGraph begins its run anew with an answer."""
        counts_steps = bool(self.builder.managed) or invocation.limits_steps(self.attempts)
        return counts_steps or bool(self.untracked)


def load_workflows(modules: Iterable[str], allowed_state_types: Iterable[str] = ()) -> dict[str, LoadedWorkflow]:
    """Imports the modules and checks their WORKFLOWS; raises BadWorkflow.

    `allowed_state_types` are further types that states may hold, as module:Name.
    """
    allowed = tuple(_type_named(name) for name in allowed_state_types)
    loaded: dict[str, LoadedWorkflow] = {}
    for module in modules:
        for name, workflow in _declared(module).items():
            if name in loaded:
                raise BadWorkflow(f"{module}: another module declares a workflow named {name!r} too")
            loaded[name] = LoadedWorkflow(name, workflow, allowed)
            _check(f"{module}: workflow {name!r}", loaded[name])
    return loaded


def _declared(module: str) -> dict[str, Workflow]:
    try:
        workflows = getattr(importlib.import_module(module), "WORKFLOWS", None)
    except ImportError as error:
        raise BadWorkflow(f"the module {module} cannot be imported: {error}") from error
    if not isinstance(workflows, dict) or not workflows:
        raise BadWorkflow(f"the module {module} has no WORKFLOWS: dict[str, Workflow]")
    for name, workflow in workflows.items():
        if not isinstance(name, str) or not isinstance(workflow, Workflow):
            raise BadWorkflow(f"{module}: WORKFLOWS[{name!r}] is a {type(workflow).__name__}, not a Workflow")
        if not isinstance(workflow.graph, StateGraph | CompiledStateGraph):
            raise BadWorkflow(f"{module}: the graph of {name!r} is a {type(workflow.graph).__name__}, not a StateGraph")
    return workflows


def _check(where: str, loaded: LoadedWorkflow) -> None:
    if unknown := sorted(set(loaded.workflow.nodes) - set(loaded.nodes)):
        raise BadWorkflow(f"{where} sets up nodes that its graph does not have: {', '.join(unknown)}")
    graph = loaded.workflow.graph
    if isinstance(graph, CompiledStateGraph) and (graph.interrupt_before_nodes or graph.interrupt_after_nodes):
        raise BadWorkflow(f"{where} is compiled with interrupt_before or interrupt_after; call interrupt()")
    handled = any(spec.is_error_handler for spec in loaded.builder.nodes.values())
    if handled or loaded.builder._node_defaults.error_handler is not None:
        raise BadWorkflow(f"{where} has error handlers, which are not run; a failed step can be retried")
    _refuse_delta_channels(where, loaded.builder)
    try:
        loaded.orchestration  # noqa: B018
        loaded.codec  # noqa: B018 - it allows the classes of the modules that are imported now
    except ValueError as error:
        raise BadWorkflow(f"{where} does not compile: {error}") from error


def _refuse_delta_channels(where: str, builder: Builder) -> None:
    # They are read from the writes of all checkpoints, and a snapshot holds the latest only.
    for name, channel in builder.channels.items():
        if isinstance(channel, DeltaChannel):
            raise BadWorkflow(f"{where} has a DeltaChannel, {name}, which is not supported")
    for subgraph in subgraphs(builder).values():
        _refuse_delta_channels(where, subgraph)


def _type_named(name: str) -> type:
    module, _, path = name.partition(":")
    try:
        found: Any = attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise BadWorkflow(f"the allowed state type {name!r} cannot be found; write module:Name") from error
    if not isinstance(found, type):
        raise BadWorkflow(f"the allowed state type {name!r} is not a class")
    return found
