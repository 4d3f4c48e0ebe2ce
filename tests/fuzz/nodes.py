"""What the nodes and routers of random graphs do: they are pure functions of what they get, and record each call."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END
from langgraph.types import Command, Overwrite, Send, interrupt

from tests.fuzz.description import Goto, Graph, Node, Router, Write
from tests.fuzz.world import NodeBroke, RouterBroke, World

MESSAGES = ("messages", "window")
_REDUCED = {"items": "operator.add", "merged": "custom reducer", "best": "custom reducer", "scratch": "untracked value"}


@dataclass(frozen=True)
class Place:
    """Where a graph stands: what its nodes' names begin with, and which kind of subgraph it is, if it is one."""

    prefix: str = ""
    feature: str = ""


class Behaviour:
    """A node's function, as an async or a sync one."""

    def __init__(self, world: World, graph: Graph, node: Node, place: Place, called: Any) -> None:
        self.world, self.graph, self.node, self.place, self.called = world, graph, node, place, called
        self.path = f"{place.prefix}{node.name}"

    def function(self) -> Callable[..., Any]:
        async def asynchronous(value: Any, config: RunnableConfig) -> Any:
            gathered = self.begin(value, config)
            for argument in self.calls(value):
                gathered["inner"].append(await self.called.ainvoke(argument))
            return self.end(value, gathered)

        def synchronous(value: Any, config: RunnableConfig) -> Any:
            gathered = self.begin(value, config)
            for argument in self.calls(value):
                gathered["inner"].append(self.called.invoke(argument))
            return self.end(value, gathered)

        return synchronous if self.node.sync else asynchronous

    def begin(self, value: Any, config: RunnableConfig) -> dict[str, Any]:
        saw = text(value)
        self.world.record(self.path, saw, config)
        self._mark("sync node" if self.node.sync else "async node")
        self._mark(f"{self.graph.schema} state")
        if self.place.feature:
            self._mark(self.place.feature)
        if self.node.defer:
            self._mark("defer")
        if self.node.reads != "state":
            self._mark(f"{self.node.reads} input")
        return {"saw": saw, "answers": [self._ask(value, n) for n in range(self.node.asks)], "inner": []}

    def calls(self, value: Any) -> Iterator[Any]:
        """The inputs of the subgraphs that the node calls."""
        for number in range(self.node.call.times if self.node.call else 0):
            message = HumanMessage(f"{self.path} calls", id=f"call-{self.path}-{turns_of(value)}-{number}")
            yield {"turns": 1, "messages": [message]}

    def end(self, value: Any, gathered: dict[str, Any]) -> Any:
        gathered["answers"] += [self._ask(value, self.node.asks + number) for number in range(self.node.asks_after)]
        if self.node.raises:
            self._mark("node raises")
            raise NodeBroke(self.path)
        self._mark(f"returns {self.node.returns}")
        if self.node.returns == "none":
            return None
        update = self._update(value, gathered)
        gotos = [goto for way in self.node.gotos for goto in self._gotos(value, way)]
        if self.node.parent_goto:
            self._mark("command to the parent")
            return Command(graph=Command.PARENT, goto=self.node.parent_goto, update=update)
        if self.node.returns == "command":
            return Command(update=update, goto=gotos)
        if self.node.returns == "commands":
            # A dict may stand beside commands.
            first = {name: item for name, item in update.items() if name in ("seen", "turns")}
            rest = {name: item for name, item in update.items() if name not in first}
            return [first, Command(update=rest), Command(goto=gotos)]
        return update

    def _mark(self, feature: str) -> None:
        self.world.features[feature] += 1

    def _ask(self, value: Any, number: int) -> Any:
        if self.node.asks + self.node.asks_after > 1:
            self._mark("several questions")
        self._mark("question of a subgraph" if self.place.feature else "question")
        return interrupt(f"{self.path} asks {number} in turn {turns_of(value)} with {part(value, 'item')}")

    def _update(self, value: Any, gathered: dict[str, Any]) -> dict[str, Any]:
        entry = (self.path, gathered["saw"], tuple(gathered["answers"]), text(gathered["inner"]))
        update: dict[str, Any] = {"turns": 1, "seen": [entry]}
        shared = AIMessage(f"{self.path} says the same")
        for write in self.node.writes:
            update[write.channel] = self._written(value, write, shared)
        return update

    def _written(self, value: Any, write: Write, shared: AIMessage) -> Any:
        here = (self.path, turns_of(value), part(value, "item"))
        if write.channel in MESSAGES:
            self._mark("add_messages" if write.channel == "messages" else "wrapped add_messages")
            self._mark(f"message: {write.form}")
            return shared if write.form == "shared" else self._message(value, write)
        if write.form == "overwrite":
            self._mark("overwrite")
            return Overwrite([here])
        if write.form == "message":
            self._mark("message without a reducer")
            return [AIMessage(f"{here}")]
        self._mark(_REDUCED.get(write.channel, write.channel))
        return {
            "items": [here],
            "merged": {self.node.name: here},
            "best": turns_of(value) * 7 % 5,
            "scratch": (part(value, "scratch") or 0) + 1,
        }.get(write.channel, here)

    def _message(self, value: Any, write: Write) -> Any:
        said = f"{self.path} says {write.form} in turn {turns_of(value)} to {part(value, 'item')}"
        match write.form:
            case "id":
                # The same in each turn, so that it is replaced.
                return AIMessage(said, id=f"of-{self.path}")
            case "dict":
                return {"role": "user", "content": said}
            case "tuple":
                return [("ai", said)]
            case "text":
                return said
            case "several":
                return [HumanMessage(said), {"role": "ai", "content": said}, AIMessage(said, id=f"of-{self.path}")]
            case "removal":
                there = [message for message in part(value, write.channel) or [] if isinstance(message, BaseMessage)]
                return [RemoveMessage(id=there[-1].id or "")] if there else []
            case _:
                return [AIMessage(said)]

    def _gotos(self, value: Any, goto: Goto) -> list[str | Send]:
        taken = list(ways(self.graph, self.node.name, goto, value))
        if taken:
            self._mark("command with Sends" if goto.times else "command with goto")
        return taken


def routing(world: World, graph: Graph, router: Router) -> Callable[[Any], Any]:
    """The function of a conditional edge."""

    def route(state: Any) -> Any:
        if router.raises:
            world.features["router raises"] += 1
            raise RouterBroke(router.source)
        world.features["router"] += 1
        chosen = router.targets if router.many else (router.targets[turns_of(state) % len(router.targets)],)
        taken = [way for goto in chosen for way in ways(graph, router.source, goto, state)]
        if any(isinstance(way, Send) for way in taken):
            world.features["router with Sends"] += 1
        return taken or END

    return route


def ways(graph: Graph, source: str, goto: Goto, value: Any) -> Iterator[str | Send]:
    """Where it leads now: nowhere, if it goes back or fans out and there were turns enough."""
    names = [node.name for node in graph.nodes]
    turns = turns_of(value)
    forward = names.index(goto.node) > names.index(source)
    if turns >= graph.bound and (goto.times or not forward):
        return
    if not goto.times:
        yield goto.node
    for number in range(goto.times):
        argument: dict[str, Any] = {"turns": turns + 2, "item": (source, number)}
        if goto.with_message:
            argument["messages"] = [HumanMessage(f"{source} sends {number}")]
        yield Send(goto.node, argument)


def turns_of(value: Any) -> int:
    turns = part(value, "turns")
    return turns if isinstance(turns, int) else 0


def part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def text(value: Any) -> str:
    """What a node saw, without what others saw: that would double in each turn."""
    if isinstance(value, list):
        return " ".join(map(text, value))
    fields = value if isinstance(value, Mapping) else vars(value)
    shown = " ".join(f"{name}={_brief(item)}" for name, item in sorted(fields.items()) if name != "seen")
    return f"{type(value).__name__}({len(fields.get('seen', ()))} seen, {shown})"


def _brief(value: Any) -> str:
    # The repr of a message costs a hundred times as much.
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    return f"<{value.type} {value.id}: {value.content}>" if isinstance(value, BaseMessage) else repr(value)
