"""An ordinary LangGraph graph with all that has to run unchanged, here and under plain `ainvoke`."""

import operator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from workers.workflow import Node, Workflow

FAN_OUT = 50


class Mood(Enum):
    CALM = "calm"
    TENSE = "tense"


@dataclass(frozen=True)
class Ticket:
    number: int
    place: tuple[float, float]


class Verdict(BaseModel):
    passed: bool
    scores: tuple[int, ...] = ()


class State(TypedDict, total=False):
    goal: str
    due: date
    begun: datetime
    span: tuple[int, str, tuple[float, ...]]
    mood: Mood
    ticket: Ticket
    verdict: Verdict
    squares: Annotated[list[tuple[int, int]], operator.add]
    notes: Annotated[list[str], operator.add]
    rounds: int
    approvals: list[Any]
    inner_answer: str


class Part(TypedDict):
    number: int
    at: date


class Inner(TypedDict, total=False):
    goal: str
    inner_answer: str
    draft: str


async def plan(state: State) -> State:
    get_stream_writer()({"planning": state["goal"]})
    return {
        "due": date(2026, 2, 28),
        "begun": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "span": (1, "two", (3.0,)),
        "mood": Mood.CALM,
        "ticket": Ticket(7, (1.5, 2.5)),
        "notes": ["planned"],
        "rounds": 0,
    }


def split(state: State) -> list[Send]:
    return [Send("square", {"number": n, "at": state["due"]}) for n in range(FAN_OUT)]


def square(part: Part) -> State:
    assert type(part["at"]) is date
    return {"squares": [(part["number"], part["number"] ** 2)]}


async def gather(state: State) -> Command[Literal["left", "right"]]:
    count = len(state.get("squares", []))
    return Command(update={"notes": [f"gathered {count}"]}, goto=["left", "right"])


async def left(state: State) -> list[Command[Any]]:
    return [
        Command(update={"notes": ["left once"]}),
        Command(update={"notes": ["left twice"]}, goto=Send("extra", {"number": 3, "at": state["due"]})),
    ]


def right(state: State) -> State:
    return {"mood": Mood.TENSE, "verdict": Verdict(passed=True, scores=(1, 2))}


async def extra(part: Part) -> None:
    assert part["number"] == 3


async def join(state: State) -> State:
    span = state["span"]
    assert type(span) is tuple and type(span[2]) is tuple
    assert isinstance(state["verdict"], Verdict) and isinstance(state["ticket"], Ticket)
    return {"due": state["due"] + timedelta(days=1), "notes": ["joined"]}


async def approve(state: State) -> State:
    first = interrupt({"question": "go on?", "due": state["due"]})
    second = interrupt("how fast?")
    return {"approvals": [first, second], "notes": ["approved"]}


async def draft(state: Inner) -> Inner:
    return {"draft": f"draft of {state['goal']}"}


async def review(state: Inner) -> Inner:
    answer = interrupt({"review": state["draft"]})
    return {"inner_answer": f"{state['draft']}: {answer}"}


async def again(state: State) -> State:
    return {"rounds": state.get("rounds", 0) + 1}


def enough(state: State) -> Literal["again", "wrap_up"]:
    return "wrap_up" if state["rounds"] >= 3 else "again"


async def audit(state: State) -> State:
    return {"notes": ["audited"]}


async def wrap_up(state: State) -> State:
    return {"notes": ["done"]}


def build_inner() -> Any:
    inner = StateGraph(Inner)
    inner.add_node("draft", draft)
    inner.add_node("review", review)
    inner.add_edge(START, "draft")
    inner.add_edge("draft", "review")
    return inner.compile()


def build() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    nodes: list[Any] = [plan, square, gather, left, right, extra, join, approve, again, wrap_up]
    for node in nodes:
        graph.add_node(node)
    graph.add_node("audit", audit, defer=True)
    graph.add_node("reviewed", build_inner())
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", split, ["square"])
    graph.add_edge("square", "gather")
    graph.add_edge(["left", "right"], "join")
    graph.add_edge("join", "approve")
    graph.add_edge("approve", "reviewed")
    graph.add_edge("reviewed", "again")
    graph.add_edge("reviewed", "audit")
    graph.add_conditional_edges("again", enough)
    graph.add_edge("wrap_up", END)
    return graph


ANSWERS: dict[str, list[Any]] = {"approve": [True, None], "reviewed": ["fine"]}
"""What a person answers, by node, in order."""

WORKFLOWS = {"everything": Workflow(graph=build(), nodes={"square": Node(queue="small", max_attempts=2)})}
