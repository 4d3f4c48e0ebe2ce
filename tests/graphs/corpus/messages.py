"""Messages with and without ids, in the forms that `add_messages` takes, and through reducers of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, Send
from pydantic import BaseModel

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, Node, row, side_by_side

HELLO = {"messages": [{"role": "user", "content": "hello", "id": "h"}]}


def say(text: str, *, form: str = "message", key: str = "messages", message_id: str | None = None) -> Node:
    """A node that writes one message, in one of the forms that LangGraph reads as one."""

    def run(state: Any) -> dict[str, Any]:
        happened(text)
        forms: dict[str, Any] = {
            "message": AIMessage(text, id=message_id),
            "tuple": ("ai", text),
            "dict": {"role": "assistant", "content": text},
            "chunk": AIMessageChunk(content=text),
            "string": text,
        }
        return {key: [forms[form]]}

    return run


def count(state: Any) -> dict[str, Any]:
    held = state["messages"] if isinstance(state, dict) else state.messages
    return {"messages": [AIMessage(f"{len(held)}: {'|'.join(m.content for m in held)}")]}


def with_routers(writers: dict[str, Node], schema: type = MessagesState) -> Graph:
    """A router behind each writer, all of them to one node."""
    graph: Graph = StateGraph(schema)
    graph.add_node("count", count)
    for name, node in writers.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_conditional_edges(name, lambda state: "count", ["count"])
    return graph


def two_parallel() -> Graph:
    return with_routers({"a": say("from a"), "b": say("from b")})


def one_of_two_has_an_id() -> Graph:
    return with_routers({"a": say("from a", message_id="a-1"), "b": say("from b"), "c": say("from c")})


def by_their_count(state: Any) -> str:
    return "more" if len(state["messages"]) < 7 else END


def routed_by_count() -> Graph:
    graph: Graph = StateGraph(MessagesState)
    for name in ("left", "right"):
        graph.add_node(name, say(name))
        graph.add_conditional_edges(name, by_their_count, ["more", END])
        graph.add_edge(START, name)
        graph.add_edge("more", name)
    graph.add_node("more", say("more"))
    return graph


def many_at_once() -> Graph:
    return side_by_side(MessagesState, [(f"n{i}", say(f"from {i}")) for i in range(8)], count, remove_every_second)


def remove_every_second(state: Any) -> dict[str, Any]:
    return {"messages": [RemoveMessage(id=str(m.id)) for m in state["messages"][::2]]}


def wrapped(left: Any, right: Any) -> Any:
    return add_messages(left, right)


def last_four(left: Any, right: Any) -> Any:
    merged = add_messages(left, right)
    return merged[-4:] if isinstance(merged, list) else merged


def by_thread(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {**left, **{name: add_messages(left.get(name, []), right[name]) for name in right}}


class Wrapped(TypedDict):
    messages: Annotated[list[AnyMessage], wrapped]


class LastFour(TypedDict):
    messages: Annotated[list[AnyMessage], last_four]


class Threads(TypedDict):
    threads: Annotated[dict[str, Any], by_thread]
    seen: int


def wrapped_reducer() -> Graph:
    graph = with_routers({"a": say("from a"), "b": say("from b")}, Wrapped)
    graph.add_node(remove_every_second)
    graph.add_edge("count", "remove_every_second")
    return graph


def trimming_reducer() -> Graph:
    graph = with_routers({name: say(f"from {name}") for name in "abcd"}, LastFour)
    graph.add_node(replace_the_last)
    graph.add_edge("count", "replace_the_last")
    return graph


def replace_the_last(state: Any) -> dict[str, Any]:
    last = state["messages"][-1]
    return {"messages": [AIMessage(f"instead of {last.content}", id=last.id)]}


def write_threads(name: str) -> Node:
    def run(state: Threads) -> dict[str, Any]:
        happened(name)
        return {"threads": {name: [("human", f"hi {name}"), AIMessage("hello")], "all": AIMessage(f"for all, {name}")}}

    return run


def prune_threads(state: Threads) -> dict[str, Any]:
    doomed = [RemoveMessage(id=str(thread[0].id)) for thread in [state["threads"]["all"]]]
    return {"threads": {"all": doomed}, "seen": len(state["threads"]["all"])}


def threads_in_a_dict() -> Graph:
    return side_by_side(Threads, [("x", write_threads("x")), ("y", write_threads("y"))], prune_threads)


def remove_all_and_begin_again() -> Graph:
    def forget(state: Any) -> dict[str, Any]:
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("summary"), AIMessage("go on")]}

    return row(MessagesState, ("first", say("first")), ("second", say("second")), forget, count)


def worker(state: Any) -> dict[str, Any]:
    happened(f"work {state['n']}")
    return {"messages": [AIMessage(f"worked on {state['n']}"), {"role": "user", "content": "thanks"}]}


def sends_that_write_messages() -> Graph:
    graph: Graph = StateGraph(MessagesState)
    graph.add_node("worker", worker)
    graph.add_node("replace_the_last", replace_the_last)
    graph.add_conditional_edges(START, lambda s: [Send("worker", {"n": n}) for n in range(5)], ["worker"])
    graph.add_conditional_edges("worker", lambda s: "replace_the_last", ["replace_the_last"])
    graph.add_edge("replace_the_last", "count")
    graph.add_node("count", count)
    return graph


def parallel_commands() -> Graph:
    def command(name: str) -> Node:
        def run(state: Any) -> Command[Any]:
            return Command(update={"messages": AIMessage(f"commanded by {name}")}, goto="count")

        return run

    graph: Graph = StateGraph(MessagesState)
    for name in "ab":
        graph.add_node(name, command(name), destinations=("count",))
        graph.add_edge(START, name)
    graph.add_node("count", count)
    return graph


class Sorted(MessagesState):
    last: AnyMessage
    all: list[AnyMessage]


def keep_twice(state: Sorted) -> dict[str, Any]:
    message = AIMessage("kept twice")
    return {"messages": [message], "last": message}


def no_ids_without_a_reducer() -> Graph:
    """A plain channel gives a message no id; one that stands in both gets it in both."""

    def loose(state: Sorted) -> dict[str, Any]:
        return {"all": [AIMessage("loose"), HumanMessage("too")]}

    def look(state: Sorted) -> dict[str, Any]:
        same = state["last"].id == state["messages"][-1].id
        return {"messages": [AIMessage(f"same {same}, loose {[m.id for m in state['all']]}")]}

    return row(Sorted, keep_twice, loose, look)


def messages_in_a_log() -> Graph:
    def write(state: Log) -> Log:
        return {"log": [AIMessage("one"), ("ai", "no message"), ToolMessage("t", tool_call_id="1", status="error")]}

    def look(state: Log) -> Log:
        return {"log": [[getattr(m, "id", "none") for m in state["log"]]]}

    return row(Log, write, look)


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    turns: int = 0


@dataclass
class Data:
    messages: Annotated[Sequence[AnyMessage], add_messages] = field(default_factory=list)


def with_tools() -> Graph:
    def call(state: Any) -> dict[str, Any]:
        calls = [{"name": "add", "args": {"a": 1}, "id": f"c{i}", "type": "tool_call"} for i in range(2)]
        return {"messages": AIMessage("", tool_calls=calls)}

    def tool(number: int) -> Node:
        def run(state: Any) -> dict[str, Any]:
            return {"messages": [ToolMessage(f"sum {number}", tool_call_id=f"c{number}", artifact={"n": number})]}

        return run

    graph: Graph = StateGraph(MessagesState)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    for number in range(2):
        graph.add_node(f"tool{number}", tool(number))
        graph.add_edge("call", f"tool{number}")
        graph.add_conditional_edges(f"tool{number}", lambda state: "count", ["count"])
    graph.add_node("count", count)
    return graph


def subgraph_with_messages() -> Graph:
    inner = with_routers({"x": say("inner x"), "y": say("inner y")}).compile()
    return row(MessagesState, ("before", say("before")), ("inner", inner), count)


def forms() -> Graph:
    kinds = ("message", "tuple", "dict", "chunk", "string")
    return with_routers({kind: say(f"as {kind}", form=kind) for kind in kinds})


def each(name: str, graph: Graph, given: Any = HELLO) -> Case:
    return Case(f"messages-{name}", "messages", graph, given)


CASES = [
    each("two-parallel", two_parallel()),
    each("some-with-ids", one_of_two_has_an_id()),
    each("routed-by-count", routed_by_count()),
    each("many-at-once", many_at_once()),
    each("wrapped-reducer", wrapped_reducer()),
    each("trimming-reducer", trimming_reducer()),
    each("threads-in-a-dict", threads_in_a_dict(), {"threads": {}}),
    each("remove-all", remove_all_and_begin_again()),
    each("sends", sends_that_write_messages()),
    each("parallel-commands", parallel_commands()),
    each("no-ids-without-reducer", no_ids_without_a_reducer()),
    each("in-a-log", messages_in_a_log(), {"log": []}),
    each("pydantic-state", with_routers({"a": say("a"), "b": say("b")}, Model)),
    each("dataclass-state", with_routers({"a": say("a"), "b": say("b")}, Data)),
    each("tool-calls", with_tools()),
    each("subgraph", subgraph_with_messages()),
    each("forms", forms()),
    each("input-without-ids", two_parallel(), {"messages": [["user", "hi"], {"role": "user", "content": "again"}]}),
    each("single-input", two_parallel(), {"messages": "just text"}),
]
