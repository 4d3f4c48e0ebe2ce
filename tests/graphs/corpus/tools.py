"""Tools of `ToolNode`, which see the state, the configuration and the store of the graph that calls them."""

from typing import Annotated, Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log

HELLO = {"messages": [{"role": "user", "content": "hello", "id": "h"}], "log": ["begun"]}


class Chat(MessagesState, Log):
    pass


@tool
def whole_state(word: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Sees the state."""
    happened(f"whole_state {word}")
    return f"{word}: {len(state['messages'])} messages, {state['log']}"


@tool
def one_field(word: str, log: Annotated[list[Any], InjectedState("log")]) -> str:
    """Sees a field of the state."""
    happened(f"one_field {word}")
    return f"{word}: {log}"


@tool
def with_runtime(word: str, runtime: ToolRuntime) -> str:
    """Sees all that a tool can see."""
    happened(f"with_runtime {word}")
    limit = runtime.config["recursion_limit"]
    return f"{word}: {runtime.tool_call_id}, {len(runtime.state['messages'])} messages, limit {limit}"


@tool
def with_context(word: str, runtime: ToolRuntime) -> str:
    """Sees the context."""
    return f"{word}: {runtime.context}"


@tool
def updates(word: str, call: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Changes the state."""
    happened(f"updates {word}")
    return Command(update={"log": [f"tool {word}"], "messages": [ToolMessage(f"did {word}", tool_call_id=call)]})


@tool
def asks(word: str, runtime: ToolRuntime) -> str:
    """Asks a person."""
    happened(f"before asking {word}")
    so_far = len(runtime.state["messages"])
    return f"{word}: {interrupt(f'{word} of {so_far}?')}"


@tool
def remembers(word: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Keeps a word."""
    before = [item.key for item in store.search(("tools-remember",))]
    store.put(("tools-remember",), word, {"word": word})
    return f"{word} after {before}"


@tool
def fails(word: str) -> str:
    """Does not work."""
    raise ValueError(f"no {word}")


TOOLS = [whole_state, one_field, with_runtime, with_context, updates, asks, remembers]


def calling(rounds: list[list[str]]) -> Any:
    """A model that calls the named tools, round by round, and then says what they answered."""

    def model(state: Any) -> dict[str, Any]:
        turn = sum(isinstance(message, AIMessage) for message in state["messages"])
        if turn == len(rounds):
            answers = [m.content for m in state["messages"] if isinstance(m, ToolMessage)]
            return {"messages": [AIMessage(f"heard {answers}")]}
        calls = [
            {"name": name, "args": {"word": f"w{turn}{place}"}, "id": f"call-{turn}-{place}", "type": "tool_call"}
            for place, name in enumerate(rounds[turn])
        ]
        return {"messages": [AIMessage("", tool_calls=calls)]}

    return model


def agent(*rounds: list[str], tools: ToolNode | None = None, **options: Any) -> Graph:
    graph: Graph = StateGraph(Chat, **options)
    graph.add_node("model", calling(list(rounds)))
    graph.add_node("tools", tools or ToolNode(TOOLS))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph


def each_call_alone(*rounds: list[str]) -> Graph:
    """As LangChain's agents do it: a `Send` for each call."""

    def calls(state: Any) -> Any:
        return [Send("tools", [call]) for call in state["messages"][-1].tool_calls] or END

    graph: Graph = StateGraph(Chat)
    graph.add_node("model", calling(list(rounds)))
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", calls, ["tools", END])
    graph.add_conditional_edges("tools", lambda state: "model", ["model"])
    return graph


def edited_by_a_reviewer() -> Graph:
    """The call that runs is the one that the reviewer left, not the model's."""

    def review(state: Any) -> dict[str, Any]:
        last = state["messages"][-1]
        edited = [{**call, "args": {"word": interrupt(f"edit {call['id']}?")}} for call in last.tool_calls]
        return {"messages": [last.model_copy(update={"tool_calls": edited})]}

    graph: Graph = StateGraph(Chat)
    graph.add_node("model", calling([["whole_state", "one_field"]]))
    graph.add_node("review", review)
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda s: "review" if s["messages"][-1].tool_calls else END, ["review", END])
    graph.add_conditional_edges(
        "review", lambda s: [Send("tools", [c]) for c in s["messages"][-1].tool_calls], ["tools"]
    )
    graph.add_edge("tools", "model")
    return graph


def each(name: str, graph: Any, **more: Any) -> Case:
    return Case(f"tools-{name}", "world", graph, HELLO, **more)


CASES = [
    each("state", agent(["whole_state"], ["one_field"])),
    each("runtime", agent(["with_runtime"]), config={"recursion_limit": 25}),
    each("several-at-once", agent(["whole_state", "one_field", "updates"], ["whole_state"])),
    each("each-alone", each_call_alone(["whole_state", "one_field"], ["whole_state"])),
    each("each-alone-runtime", each_call_alone(["with_runtime", "with_runtime"]), config={"recursion_limit": 25}),
    each("each-alone-updates", each_call_alone(["updates", "updates"], ["one_field"])),
    each("ask", agent(["asks"], ["asks"]), answers=["red", "blue"]),
    each("each-alone-ask", each_call_alone(["asks", "asks"]), answers=["red", "blue"]),
    each("edited-by-a-reviewer", edited_by_a_reviewer(), answers=["first", "second"]),
    each("context", agent(["with_context"], context_schema=dict), context={"user": "u1"}),
    each("store", agent(["remembers"], ["remembers"]).compile(store=InMemoryStore())),
    each("error-told", agent(["fails"], tools=ToolNode([fails], handle_tool_errors=True))),
    each("error-raised", agent(["fails"], tools=ToolNode([fails], handle_tool_errors=False)), raises="no w00"),
]
