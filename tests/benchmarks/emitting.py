"""A graph that emits events through LangGraph's stream writer: the same file for our worker and for other servers."""

from typing import TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

PADDING = "x" * 180
"""Makes an event's JSON about 300 bytes long, with what each server adds."""


class State(TypedDict, total=False):
    events: int


async def emit(state: State) -> State:
    write = get_stream_writer()
    for number in range(state["events"]):
        write({"msg": f"event {number}", "number": number, "padding": PADDING})
    return {"events": 0}


graph = StateGraph(State)
graph.add_node(emit)
graph.add_edge(START, "emit")
