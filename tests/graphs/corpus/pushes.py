"""What a node writes on the way: messages and elements that it pushes stand in the state like what it returns."""

from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.graph.ui import AnyUIMessage, delete_ui_message, push_ui_message, ui_message_reducer
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, Node, row

HELLO = {"messages": [{"role": "user", "content": "hello", "id": "h"}]}


class Chat(MessagesState, Log):
    ui: Annotated[list[AnyUIMessage], ui_message_reducer]


def say(text: str) -> Node:
    def run(state: Any) -> dict[str, Any]:
        return {"messages": AIMessage(text)}

    return run


def pushes() -> Graph:
    def push(state: Any) -> dict[str, Any]:
        happened("pushed")
        push_message(AIMessage("on the way", id="w1"))
        push_message(HumanMessage("and again", id="w2"))
        return {"messages": [AIMessage("at the end")], "log": ["pushed two"]}

    def look(state: Any) -> Log:
        return {"log": [[m.content for m in state["messages"]]]}

    return row(Chat, push, look)


def pushes_and_returns_nothing() -> Graph:
    def push(state: Any) -> None:
        push_message(AIMessage("all there is", id="w"))

    def look(state: Any) -> Log:
        return {"log": [[m.content for m in state["messages"]]]}

    return row(Chat, push, look)


def pushes_in_parallel_sends() -> Graph:
    def push(state: Any) -> None:
        push_message(AIMessage(f"from {state['n']}", id=f"w{state['n']}"))

    graph: Graph = StateGraph(Chat)
    graph.add_node("push", push)
    graph.add_node("look", lambda state: {"log": [[m.content for m in state["messages"]]]})
    graph.add_conditional_edges(START, lambda state: [Send("push", {"n": n}) for n in range(4)], ["push"])
    graph.add_edge("push", "look")
    return graph


def pushes_before_a_question() -> Graph:
    def push(state: Any) -> dict[str, Any]:
        push_message(AIMessage("before", id="w1"))
        answer = interrupt("and then?")
        push_message(AIMessage(f"after {answer}", id="w2"))
        return {"log": ["done"]}

    return row(Chat, push, ("last", say("last")))


def pushes_and_commands() -> Graph:
    def push(state: Any) -> Command[Any]:
        push_message(AIMessage("with a command", id="w"))
        return Command(update={"log": ["commanded"]}, goto="last")

    graph: Graph = StateGraph(Chat)
    graph.add_node("push", push, destinations=("last",))
    graph.add_node("last", say("last"))
    graph.add_edge(START, "push")
    return graph


def pushes_elements() -> Graph:
    def show(state: Any) -> Log:
        push_ui_message("chart", {"values": [1, 2]}, id="u1")
        push_ui_message("table", {"rows": 3}, id="u2", metadata={"of": "show"})
        return {"log": ["shown"]}

    def change(state: Any) -> Log:
        push_ui_message("chart", {"title": "sums"}, id="u1", merge=True)
        delete_ui_message("u2")
        return {"log": [[element["id"] for element in state["ui"]]]}

    return row(Chat, show, change)


def each(name: str, graph: Graph, given: Any = HELLO, **more: Any) -> Case:
    return Case(f"world-{name}", "world", graph, given, **more)


CASES = [
    each("pushes", pushes(), HELLO),
    each("pushes-and-returns-nothing", pushes_and_returns_nothing(), HELLO),
    each("pushes-in-sends", pushes_in_parallel_sends(), HELLO),
    each("pushes-before-a-question", pushes_before_a_question(), HELLO, answers=["then"]),
    each("pushes-and-commands", pushes_and_commands(), HELLO),
    each("pushes-elements", pushes_elements(), {"ui": []}),
]
