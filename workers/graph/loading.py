"""The workflows that this worker serves, loaded from their modules."""

import importlib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import RetryPolicy

from app.errors import BadWorkflow, describe, one_line
from app.known_secrets import NO_SECRETS, Secrets
from app.sessions.model import RefusedWorkflow
from workers.graph.channels import untracked
from workers.graph.codec import Codec
from workers.graph.copies import Graph, attempt_copy, orchestrating_copy
from workers.graph.invocation import Invocation
from workers.graph.message_ids import MessageChannels
from workers.graph.schemas import Builder, shape_digest, state_types, subgraphs
from workers.graph.serializer import ExactSerializer
from workers.graph.unsupported import unsupported
from workers.workflow import Node, Workflow


@dataclass(frozen=True, eq=False)
class LoadedWorkflow:
    """A workflow with what is derived from its graph; graphs are compiled when they are first needed."""

    name: str
    workflow: Workflow
    allowed_types: tuple[type, ...] = ()
    secrets: Secrets = NO_SECRETS
    """Those of the worker, which stand by their names in what is stored."""

    @cached_property
    def builder(self) -> Builder:
        graph = self.workflow.graph
        return graph.builder if isinstance(graph, CompiledStateGraph) else graph

    @cached_property
    def version(self) -> str:
        return self.workflow.version or shape_digest(self.builder)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(map(str.__str__, self.builder.nodes))  # an enum's members may name them

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
        return state_types(self.builder) | _types_of_names(self.builder) | set(self.allowed_types)

    @cached_property
    def serializer(self) -> ExactSerializer:
        return ExactSerializer(self.state_types, self.secrets)

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

    @property
    def store(self) -> BaseStore | None:
        """What the graph was compiled with."""
        return self.compiled.store

    @cached_property
    def attempts(self) -> Graph:
        """What attempts run."""
        return attempt_copy(self.compiled)

    def retry_policies(self, name: str) -> Sequence[RetryPolicy]:
        """What the graph says about errors of this node; nothing where the workflow's `Node` says it."""
        if self.node(name).max_attempts is not None:
            return ()
        return self.compiled.nodes[name].retry_policy or self.compiled.retry_policy or ()

    def ends_in_time(self, name: str) -> bool:
        """Says whether the time limit of the node's steps is the graph's own, which LangGraph does not try again."""
        return self.node(name).time_limit is None and self.compiled.step_timeout is not None

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
        counts_steps = bool(self.builder.managed) or invocation.counts_steps(self.attempts)
        return counts_steps or bool(self.untracked)


@dataclass(frozen=True, slots=True)
class Workflows:
    """What came of a worker's modules."""

    served: dict[str, LoadedWorkflow]
    refused: tuple[RefusedWorkflow, ...]


def load_workflows(
    modules: Iterable[str], allowed_state_types: Iterable[str] = (), secrets: Secrets = NO_SECRETS
) -> Workflows:
    """Imports the modules and checks their WORKFLOWS; what is wrong with one leaves the others served.

    `allowed_state_types` are further types that states may hold, as module:Name; raises BadWorkflow where one of these
    is not found.
    """
    allowed = tuple(_type_named(name) for name in allowed_state_types)
    served: dict[str, tuple[str, LoadedWorkflow]] = {}
    refused: list[RefusedWorkflow] = []
    for module in dict.fromkeys(modules):
        try:
            declared = _declared(module)
        except BadWorkflow as error:
            refused.append(RefusedWorkflow(None, module, one_line(str(error))))
            continue
        for name, workflow in declared.items():
            try:
                if name in served:
                    raise BadWorkflow(f"the module {served[name][0]} has one of this name, which is served; rename one")
                served[name] = module, checked(name, workflow, allowed, secrets)
            except BadWorkflow as error:
                refused.append(RefusedWorkflow(one_line(str(name)), module, one_line(str(error))))
    return Workflows({name: loaded for name, (_, loaded) in served.items()}, tuple(refused))


def _declared(module: str) -> dict[Any, Any]:
    """Raises BadWorkflow."""
    try:
        workflows = getattr(importlib.import_module(module), "WORKFLOWS", None)
    except (Exception, SystemExit) as error:  # a module may raise anything, and the others are served
        raise BadWorkflow(f"it cannot be imported: {describe(error)}{_line(error)}") from error
    if not isinstance(workflows, dict) or not workflows:
        raise BadWorkflow("it has no WORKFLOWS: dict[str, Workflow]")
    return workflows


def _line(error: BaseException) -> str:
    """Which line of the module led to the error, if one did."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in frame.filename]
    return f" ({Path(lines[0].filename).name}, line {lines[0].lineno})" if lines else ""


def checked(name: Any, workflow: Any, allowed: tuple[type, ...], secrets: Secrets = NO_SECRETS) -> LoadedWorkflow:
    """Raises BadWorkflow."""
    if not isinstance(name, str) or not isinstance(workflow, Workflow):
        raise BadWorkflow(f"WORKFLOWS[{name!r}] is a {type(workflow).__name__}, not a Workflow")
    if isinstance(workflow.graph, Pregel) and not isinstance(workflow.graph, CompiledStateGraph):
        raise BadWorkflow(
            "its graph is a functional @entrypoint, which has no nodes that could be steps; call it in a node of a"
            " StateGraph"
        )
    if not isinstance(workflow.graph, StateGraph | CompiledStateGraph):
        raise BadWorkflow(f"its graph is a {type(workflow.graph).__name__}, not a StateGraph")
    loaded = LoadedWorkflow(name, workflow, allowed, secrets)
    try:
        _check(loaded)
    except BadWorkflow:
        raise
    except Exception as error:  # schemas, channels and reducers are the user's, and may raise anything
        raise BadWorkflow(f"its graph cannot be read: {describe(error)}") from error
    return loaded


def _check(loaded: LoadedWorkflow) -> None:
    """Raises BadWorkflow. Also derives once what is told of each workflow that is served."""
    if unknown := sorted(set(loaded.workflow.nodes) - set(loaded.nodes)):
        raise BadWorkflow(f"it sets up nodes that its graph does not have: {', '.join(unknown)}")
    graph = loaded.workflow.graph
    if wrong := list(unsupported(loaded.builder, graph if isinstance(graph, CompiledStateGraph) else None)):
        raise BadWorkflow("; ".join(wrong))
    try:
        loaded.orchestration  # noqa: B018
        loaded.codec  # noqa: B018 - it allows the classes of the modules that are imported now
    except ValueError as error:
        raise BadWorkflow(f"it does not compile: {error}") from error
    loaded.version, loaded.input_fields, loaded.codec, loaded.attempts  # noqa: B018


def _types_of_names(builder: Builder) -> set[type]:
    """The enums whose members name nodes; snapshots and commands hold these."""
    names = {name for key, spec in builder.nodes.items() for name in (key, *(spec.ends or ()))}
    inner = (_types_of_names(subgraph) for subgraph in subgraphs(builder).values())
    return {type(name) for name in names}.difference([str]).union(*inner)


def _type_named(name: str) -> type:
    module, _, path = name.partition(":")
    try:
        found: Any = attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise BadWorkflow(f"the allowed state type {name!r} cannot be found; write module:Name") from error
    if not isinstance(found, type):
        raise BadWorkflow(f"the allowed state type {name!r} is not a class")
    return found
