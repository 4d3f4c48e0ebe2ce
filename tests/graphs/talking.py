"""Graphs whose nodes call models and tools of LangChain, and say nothing of it themselves."""

import asyncio
from typing import Any, TypedDict

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from app.progress import ModelCall, record_model_call, recording_myself
from tests.graphs.chat_models import Scripted, usage
from workers.workflow import Workflow

CANARY = "sk-canary-0123456789abcdefghij"
LARGE = 300_000


def _calls(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    asked: Any = [
        {"name": name, "args": args, "id": f"call-{n}", "type": "tool_call"} for n, (name, args) in enumerate(calls)
    ]
    return AIMessage("Let me see.", tool_calls=asked, usage_metadata=usage(100, 10))


@tool
async def weather(city: str) -> str:
    """Says how it is there."""
    return f"rain in {city}, and the key is {CANARY}"


@tool
def history(city: str) -> str:
    """Tells all that happened there."""
    return "x" * LARGE


@tool
def sign(what: str) -> str:
    """Asks a person to sign."""
    return f"signed by {interrupt({'sign': what})}"


def agent(*calls: tuple[str, dict[str, Any]]) -> Any:
    ending = AIMessage(f"It rains, and {CANARY} is no secret.", usage_metadata=usage(200, 20))
    return create_agent(Scripted(answers=[_calls(*calls), ending]), [weather, history, sign])


def talking() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    both: tuple[tuple[str, dict[str, Any]], ...] = (("weather", {"city": "Berlin"}), ("history", {"city": "Rome"}))

    async def talk(state: MessagesState) -> Any:
        answer = await agent(*both).ainvoke({"messages": state["messages"]})
        return {"messages": answer["messages"][-1:]}

    graph.add_node(talk)
    graph.add_edge(START, "talk")
    return graph


class Said(TypedDict, total=False):
    said: str


async def signs(state: Said) -> Said:
    """One call before the question, so that it is made twice, and a tool that asks."""
    before = await Scripted(answers=["before"]).ainvoke("?")
    signed = await sign.ainvoke({"what": "this"})
    return {"said": f"{before.content}, {signed}"}


def in_a_thread(state: Said) -> Said:
    return {"said": str(Scripted(answers=["from a thread"]).invoke("?").content)}


async def fails(state: Said) -> Said:
    await Scripted(answers=[ValueError(f"{CANARY} is wrong")]).ainvoke("?")
    raise AssertionError("the model raises")


async def records_itself(state: Said) -> Said:
    with recording_myself():
        answer = await Scripted(answers=["mine"]).ainvoke("?")
    await record_model_call(ModelCall("me", "openai", "gpt", "?", answer.content, {}, None, 1.0, None, {}))
    return {"said": str(answer.content)}


async def leaves(state: Said) -> Said:
    """Ends while a call goes on."""
    model = Scripted(answers=["never told"], gate=asyncio.Event())
    going_on.append(asyncio.create_task(model.ainvoke("?")))
    while not model.streamed:
        await asyncio.sleep(0)
    return {"said": "nothing"}


going_on: list[asyncio.Task[Any]] = []


def _one(node: Any) -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Said)
    graph.add_node(node)
    graph.add_edge(START, node.__name__)
    return graph


WORKFLOWS = {
    "talking": Workflow(graph=talking()),
    "signs": Workflow(graph=_one(signs)),
    "in_a_thread": Workflow(graph=_one(in_a_thread)),
    "fails": Workflow(graph=_one(fails)),
    "records_itself": Workflow(graph=_one(records_itself)),
    "leaves": Workflow(graph=_one(leaves)),
}
