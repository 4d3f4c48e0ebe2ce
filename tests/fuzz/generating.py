"""Draws descriptions of graphs that end: static edges lead forward, and ways back are bounded by the state."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st
from langgraph.graph import START

from tests.fuzz.chances import Chances
from tests.fuzz.description import Case, Goto, Graph, Router, Schema, has_persistent
from tests.fuzz.filling import Filler
from tests.fuzz.switches import OFTEN, SELDOM, SWITCHES


def cases(without: Set[str] = frozenset()) -> st.SearchStrategy[Case]:
    """Cases in which the switches in `without` are off."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        allowed = [name for name in SWITCHES if name not in without]
        favoured = draw(st.sets(st.sampled_from(allowed), min_size=2, max_size=4))
        on = {name for name in allowed if draw(_switch(name))} | favoured
        graph = GraphMaker(Chances(draw, on, favoured), draw(st.integers(2, 5))).made()
        return Case(graph=graph, order=tuple(draw(st.lists(st.integers(0, 5), max_size=4))))

    return drawn()


def _switch(name: str) -> st.SearchStrategy[bool]:
    return st.sampled_from(
        [False, True, True] if name in OFTEN else [*[False] * 8, True] if name in SELDOM else [False, False, True]
    )


@dataclass
class GraphMaker:
    chances: Chances
    size: int
    depth: int = 0
    around: Sequence[str] = ()
    """Where a node may send the graph around this one."""
    edges: list[tuple[str, str]] = field(default_factory=list)
    joins: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    routers: dict[str, Router] = field(default_factory=dict)
    sure: list[int] = field(default_factory=list)
    """Nodes that run in any case, for which a join may wait."""

    def made(self, *, persistent: bool = False) -> Graph:
        names = ["abcdefgh"[place] for place in range(self.size)]
        self.nodes = [
            Filler(self.chances, name, self.depth, tuple(names[place + 1 :]), self.subgraph).filled()
            for place, name in enumerate(names)
        ]
        if self.around:
            self._command_the_parent()
        for place in range(self.size):
            self._reach(place)
        if self.may("loop"):
            self._lead_back()
        if self.may("router raises"):
            source = self.nodes[self.among(self.size)].name
            self.routers[source] = Router(source=source, targets=(Goto(node=source),), raises=True)
        return Graph(
            nodes=tuple(self.nodes),
            edges=tuple(self.edges),
            joins=tuple(self.joins),
            routers=tuple(self.routers.values()),
            schema=self._schema(),
            bound=self.draw(st.integers(2, 6)),
            persistent=persistent,
        )

    def subgraph(self, around: tuple[str, ...], *, persistent: bool) -> Graph:
        off = {"node raises", "router raises", "concurrent writes", "private input"}
        if self.depth:
            off |= {"subgraph as a node", "called subgraph"}
        leaving = around and self.may("command to the parent")
        if leaving:
            # What runs beside the node that leaves may or may not be done by then.
            off |= {"parallel", "join", "router with Sends", "command with Sends", "loop", "command to the parent"}
        size = self.among(3 - self.depth) + 1
        maker = GraphMaker(self.chances.without(off), size, self.depth + 1, around if leaving else ())
        return maker.made(persistent=persistent)

    @property
    def draw(self) -> st.DrawFn:
        return self.chances.draw

    def may(self, switch: str) -> bool:
        return self.chances.may(switch)

    def among(self, count: int) -> int:
        return self.draw(st.integers(0, count - 1))

    def _schema(self) -> Schema:
        if self.may("pydantic state"):
            return "pydantic"
        return "dataclass" if self.may("dataclass state") else "typed"

    def _reach(self, place: int) -> None:
        """Gives the node a way to it."""
        node = self.nodes[place]
        together = self.chances.on & {"parallel", "join", "concurrent writes"}
        if place == 0 or (place == 1 and together) or (place == 2 and self.may("parallel")):
            self._lead(START, place)
        elif self.may("join") and len(self.sure) > 1:
            first = self.among(len(self.sure) - 1)
            sources = self.sure[first], self.sure[first + 1]
            self.joins.append((tuple(self.nodes[source].name for source in sources), node.name))
            self.sure.append(place)
        else:
            self._way(self.among(place), place)

    def _lead(self, source: str, place: int) -> None:
        self.edges.append((source, self.nodes[place].name))
        if source == START or any(self.nodes[sure].name == source for sure in self.sure):
            self.sure.append(place)

    def _way(self, source: int, target: int) -> None:
        """Leads from one node to a later one in one of the ways that are switched on."""
        node = self.nodes[source]
        commands = node.subgraph is None and node.returns != "none" and not node.parent_goto
        kinds = [
            kind
            for kind in ("router", "router with Sends", "command with goto", "command with Sends")
            if kind in self.chances.on and (commands or kind.startswith("router"))
        ]
        kinds += [kind for kind in kinds if kind.endswith("Sends")]  # often there have been turns enough for them
        kinds += [kind for kind in kinds if kind in self.chances.favoured]
        kind = self.draw(st.sampled_from(["edge", *kinds]))
        if kind == "edge":
            self._lead(node.name, target)
            return
        times = self.draw(st.integers(1, 2)) if kind.endswith("Sends") and not self._single(target) else 0
        self._go(source, Goto(node=self.nodes[target].name, times=times, with_message=self._message(times)), kind)

    def _message(self, times: int) -> bool:
        return bool(times) and self.may("message in a Send")

    def _single(self, place: int) -> bool:
        """Its subgraph has one state, which only one task at a time may use."""
        node = self.nodes[place]
        graphs = [node.subgraph, node.call.graph if node.call else None]
        return any(graph is not None and has_persistent(graph) for graph in graphs)

    def _go(self, source: int, goto: Goto, kind: str) -> None:
        node = self.nodes[source]
        if kind.startswith("command"):
            returns = node.returns if node.returns == "commands" else "command"
            self.nodes[source] = replace(node, returns=returns, gotos=(*node.gotos, goto))
            return
        many = self.draw(st.booleans())
        targets = self.routers[node.name].targets if node.name in self.routers else ()
        self.routers[node.name] = Router(source=node.name, targets=(*targets, goto), many=many)

    def _command_the_parent(self) -> None:
        last = self.nodes[-1]
        if last.subgraph is None:
            goto = self.draw(st.sampled_from(self.around))
            self.nodes[-1] = replace(last, returns="command", parent_goto=goto)

    def _lead_back(self) -> None:
        # A node that returns None counts no turn, so a way back from it might be taken for ever.
        sources = [place for place, node in enumerate(self.nodes) if node.returns != "none" or node.subgraph]
        if not sources:
            return
        source = sources[self.among(len(sources))]
        node = self.nodes[source]
        command = node.subgraph is None and not node.parent_goto and self.draw(st.booleans())
        goto = Goto(node=self.nodes[self.among(source + 1)].name)
        self._go(source, goto, "command with goto" if command else "router")
