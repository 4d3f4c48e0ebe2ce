"""`UntrackedValue`: kept from superstep to superstep, in no state, and gone once a question was answered."""

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage
from langgraph.channels import UntrackedValue
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, side_by_side


class Held(Log):
    resource: Annotated[Any, UntrackedValue]


class Counted(MessagesState):
    calls: NotRequired[Annotated[int, UntrackedValue]]


class Unguarded(Log):
    last: Annotated[Any, UntrackedValue(Any, guard=False)]


class Public(TypedDict, total=False):
    log: list[Any]


def opens(state: Any) -> dict[str, Any]:
    happened("opened")
    return {"resource": {"connection": [1, 2]}, "log": ["opened"]}


def uses(state: Any) -> dict[str, Any]:
    return {"log": [f"uses {state.get('resource')}"]}


def again(state: Any) -> dict[str, Any]:
    return {"log": [f"and again {state.get('resource')}"]}


def across_supersteps() -> Graph:
    return row(Held, opens, uses, again)


def a_limit_of_calls() -> Graph:
    """As LangChain counts a run's calls."""

    def call(state: Any) -> dict[str, Any]:
        happened("call")
        return {"calls": state.get("calls", 0) + 1, "messages": [AIMessage(f"call {state.get('calls', 0) + 1}")]}

    def enough(state: Any) -> str:
        return END if state.get("calls", 0) >= 3 or len(state["messages"]) > 7 else "call"

    graph: Graph = StateGraph(Counted)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    graph.add_conditional_edges("call", enough, ["call", END])
    return graph


def dropped_by_an_answer() -> Graph:
    def ask(state: Any) -> dict[str, Any]:
        before = state.get("resource")
        return {"log": [f"{interrupt('go on?')} with {before}"]}

    return row(Held, opens, uses, ask, again)


def kept_when_nobody_asks_beside() -> Graph:
    """A question of one branch drops what the other branch wrote before."""

    def ask(state: Any) -> dict[str, Any]:
        return {"log": [interrupt("which?")]}

    return side_by_side(Held, [("a", opens), ("b", ask)], uses, again)


def written_while_a_sibling_asks() -> Graph:
    def ask(state: Any) -> dict[str, Any]:
        return {"log": [interrupt("first?"), interrupt("second?")]}

    return side_by_side(Held, [("z", opens), ("b", ask)], uses)


def in_sends() -> Graph:
    def use(state: Any) -> dict[str, Any]:
        return {"log": [[state["n"], state.get("resource")]]}

    def fan(state: Any) -> list[Send]:
        return [Send("use", {"n": n, "resource": state.get("resource")}) for n in range(3)]

    graph = row(Held, opens)
    graph.add_node("use", use)
    graph.add_conditional_edges("opens", fan, ["use"])
    return graph


def in_sends_with_a_question() -> Graph:
    def use(state: Any) -> dict[str, Any]:
        return {"log": [[state["n"], state.get("resource"), interrupt(f"{state['n']}?")]]}

    graph = row(Held, opens)
    graph.add_node("use", use)
    graph.add_conditional_edges(
        "opens", lambda state: [Send("use", {"n": n, "resource": state["resource"]}) for n in range(2)], ["use"]
    )
    return graph


def without_a_guard() -> Graph:
    def write(name: str) -> Any:
        return lambda state: {"last": name, "log": [name]}

    def look(state: Any) -> dict[str, Any]:
        return {"log": [f"last {state.get('last')}"]}

    return side_by_side(Unguarded, [(name, write(name)) for name in "abc"], look)


def with_a_guard() -> Graph:
    return side_by_side(Held, [("a", opens), ("b", opens)], uses)


def read_by_a_router() -> Graph:
    graph = row(Held, opens)
    graph.add_node("uses", uses)
    graph.add_node("missed", again)
    graph.add_conditional_edges("opens", lambda s: "uses" if s.get("resource") else "missed", ["uses", "missed"])
    return graph


def of_a_command() -> Graph:
    def command(state: Any) -> Command[Any]:
        return Command(update={"resource": "commanded", "log": ["c"]}, goto="uses")

    graph: Graph = StateGraph(Held)
    graph.add_node("command", command, destinations=("uses",))
    graph.add_node("uses", uses)
    graph.add_node("again", again)
    graph.add_edge(START, "command")
    graph.add_edge("uses", "again")
    return graph


def of_the_input() -> Graph:
    return row(Held, uses, again)


def in_a_subgraph() -> Graph:
    inner = row(Held, opens, uses).compile()
    return row(Held, ("inner", inner), ("after", again))


def kept_out_of_the_output() -> Graph:
    return row(Held, opens, uses, output_schema=Public)


class Handle:
    """Nothing that can be stored."""

    def __init__(self) -> None:
        self.lock = iter([1])


def unstorable() -> Graph:
    def take(state: Any) -> dict[str, Any]:
        happened("took a handle")
        return {"resource": Handle(), "log": ["took"]}

    def look(state: Any) -> dict[str, Any]:
        return {"log": [type(state.get("resource")).__name__]}

    return row(Held, take, look)


def each(name: str, graph: Graph, given: Any = None, **more: Any) -> Case:
    return Case(f"untracked-{name}", "untracked", graph, {"log": []} if given is None else given, **more)


CASES = [
    each("across-supersteps", across_supersteps()),
    each("limit-of-calls", a_limit_of_calls(), {"messages": "hi"}),
    each("dropped-by-an-answer", dropped_by_an_answer(), answers=["yes"]),
    each("beside-a-question", kept_when_nobody_asks_beside(), answers=["this"]),
    each("while-a-sibling-asks", written_while_a_sibling_asks(), answers=["one", "two"]),
    each("in-sends", in_sends()),
    each("in-sends-with-a-question", in_sends_with_a_question(), answers=["x", "y"]),
    each("without-a-guard", without_a_guard()),
    each("with-a-guard", with_a_guard(), raises="UntrackedValue"),
    each("read-by-a-router", read_by_a_router()),
    each("of-a-command", of_a_command()),
    each("of-the-input", of_the_input(), {"log": [], "resource": "given"}),
    each("in-a-subgraph", in_a_subgraph()),
    each("out-of-the-output", kept_out_of_the_output()),
    each("unstorable", unstorable(), refuses="resource"),
]
