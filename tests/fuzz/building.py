"""Makes a graph of its description."""

from typing import Any

from langgraph.graph import StateGraph

from tests.fuzz.description import Graph
from tests.fuzz.nodes import Behaviour, Place, routing
from tests.fuzz.schemas import INPUTS, STATES, SubgraphInput, SubgraphOutput
from tests.fuzz.world import World

ROOT = Place()


def built(graph: Graph, world: World, place: Place = ROOT) -> Any:
    """The builder; what its nodes do is recorded in `world`."""
    state = STATES[graph.schema]
    builder: Any = (
        StateGraph(state)
        if place is ROOT
        else StateGraph(state, input_schema=SubgraphInput, output_schema=SubgraphOutput)
    )
    for node in graph.nodes:
        inner = f"{place.prefix}{node.name}."
        if node.subgraph is not None:
            subgraph = _compiled(node.subgraph, world, Place(inner, "subgraph as a node"))
            builder.add_node(node.name, subgraph, defer=node.defer)
            continue
        called = _compiled(node.call.graph, world, Place(inner, "called subgraph")) if node.call else None
        function = Behaviour(world, graph, node, place, called).function()
        builder.add_node(node.name, function, defer=node.defer, input_schema=INPUTS[node.reads])
    for source, target in graph.edges:
        builder.add_edge(source, target)
    for sources, target in graph.joins:
        builder.add_edge(list(sources), target)
    for router in graph.routers:
        builder.add_conditional_edges(router.source, routing(world, graph, router))
    return builder


def _compiled(graph: Graph, world: World, place: Place) -> Any:
    feature = "persistent subgraph" if graph.persistent else place.feature
    return built(graph, world, Place(place.prefix, feature)).compile(checkpointer=True if graph.persistent else None)
