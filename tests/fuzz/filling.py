"""Draws what a node does, apart from where it leads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, get_args

from hypothesis import strategies as st

from tests.fuzz.chances import Chances
from tests.fuzz.description import Call, Form, Graph, Node, Reads, Returns, Write, all_sync
from tests.fuzz.switches import SWITCHES

FORMS: list[Form] = [form for form in get_args(Form) if f"message: {form}" in SWITCHES]


class MakesSubgraph(Protocol):
    def __call__(self, around: tuple[str, ...], *, persistent: bool) -> Graph: ...


@dataclass
class Filler:
    chances: Chances
    name: str
    depth: int
    later: tuple[str, ...]
    """The nodes after this one."""
    subgraph: MakesSubgraph

    def filled(self) -> Node:
        defer = self.may("defer")
        if self.may("subgraph as a node", 3):
            return Node(name=self.name, defer=defer, subgraph=self._subgraph())
        returns = self._returns()
        sync = self.may("sync node")
        call = self._call(sync)
        return Node(
            name=self.name,
            returns=returns,
            writes=tuple(self._writes()),
            reads=self._reads(),
            asks=self._questions(),
            asks_after=self._questions() if call and self.may("question after a call") else 0,
            raises=self.may("node raises", 3),
            sync=sync,
            defer=defer,
            call=call,
        )

    @property
    def draw(self) -> st.DrawFn:
        return self.chances.draw

    def may(self, switch: str, one_of: int = 2) -> bool:
        return self.chances.may(switch, one_of)

    def _subgraph(self) -> Graph:
        return self.subgraph(self.later, persistent=self.may("persistent subgraph"))

    def _call(self, sync: bool) -> Call | None:
        if not self.may("called subgraph", 3):
            return None
        graph = self._subgraph()
        return Call(
            graph=all_sync(graph) if sync else graph, times=1 if graph.persistent else self.draw(st.integers(1, 2))
        )

    def _returns(self) -> Returns:
        if self.may("returns none", 3):
            return "none"
        return "commands" if self.may("returns commands") else "dict"

    def _reads(self) -> Reads:
        if self.may("managed input"):
            return "managed"
        return "private" if self.may("private input") else "state"

    def _questions(self) -> int:
        if not self.may("question of a subgraph" if self.depth else "question", 3):
            return 0
        return 2 if self.may("several questions") else 1

    def _writes(self) -> Iterator[Write]:
        if self.may("operator.add"):
            yield Write(channel="items", form="overwrite" if self.may("overwrite") else "value")
        for channel, switch in (("messages", "add_messages"), ("window", "wrapped add_messages")):
            forms = [form for form in FORMS if f"message: {form}" in self.chances.on]
            if forms and self.may(switch):
                yield Write(channel=channel, form=self.draw(st.sampled_from(forms)))
        if self.may("custom reducer"):
            yield Write(channel=self.draw(st.sampled_from(["merged", "best"])))
        if self.may("untracked value"):
            yield Write(channel="scratch")
        if self.may("private input", 3):
            yield Write(channel="secret")
        if self.may("concurrent writes"):
            yield Write(channel="last")
        elif self.may("message without a reducer", 3):
            yield Write(channel="last", form="message")
