"""A workflow that says the worker's secrets wherever it can: the log must name them, and show none."""

import asyncio
import base64
import logging
import os
import subprocess
import sys
from threading import Thread
from typing import Annotated, Any, TypedDict
from urllib.parse import quote

import structlog
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Send, interrupt
from mcp import ClientSession, StdioServerParameters, stdio_client
from openai import APIStatusError, AsyncOpenAI

from app.known_secrets import secrets_in
from app.progress import current_step, report_progress
from tests.graphs.chat_models import Scripted
from workers.settings import current_settings
from workers.workflow import Node, Workflow


class State(TypedDict, total=False):
    heard: str
    """The secret that the client sent."""
    heard_is_exact: bool
    said: Any
    messages: Annotated[list[BaseMessage], add_messages]
    read_is_exact: bool
    answer: str
    answer_is_exact: bool
    fails: bool


def secrets() -> list[str]:
    """All that this worker has."""
    return [value for _, value in secrets_in(current_settings())]


def everything() -> str:
    """Each secret in each form that is often met."""
    forms = []
    for secret in secrets():
        basic = base64.b64encode(f"user:{secret}".encode()).decode()
        forms += [secret, quote(secret, safe=""), f"Authorization: Bearer {secret}", f"Authorization: Basic {basic}"]
    return "\n".join(forms)


@tool
def look(what: str, raw: bytes = b"") -> str:
    """Finds more than it should."""
    return f"{what} {raw.decode()}"


async def reports(state: State) -> State:
    text = everything()
    await report_progress(0.5, f"I know {text}", phase="decision", details={"why": [text], secrets()[0]: 1})
    writer = get_stream_writer()
    writer({"msg": text, "more": text})
    print(text, flush=True)  # noqa: T201
    print(text, file=sys.stderr, flush=True)  # noqa: T201
    logging.getLogger("a.library").warning("it said %s", text)
    structlog.get_logger().error("said", what=text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("a.library").exception("it raised")
    await asyncio.to_thread(_in_a_thread, text)
    return {"heard_is_exact": state["heard"] in secrets()}


def _in_a_thread(text: str) -> None:
    """Threads that nothing waits for end with a traceback."""

    def fail() -> None:
        raise RuntimeError(text)

    thread = Thread(target=fail)
    thread.start()
    thread.join()


async def programs(state: State) -> None:
    text = everything()
    places = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    environment = {**places, **current_step().environment}
    reading = "import sys; sys.argv[1:] = ['progress', '0.5', sys.stdin.read()]; from app.cli.main import app; app()"
    run = [sys.executable, "-c", reading]
    await asyncio.to_thread(subprocess.run, run, env=environment, input=text.encode(), check=True)
    bridge = StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "app.cli", "mcp-progress"], env=environment
    )
    async with stdio_client(bridge) as streams, ClientSession(*streams) as client:
        await client.initialize()
        arguments = {"decision": text, "reasoning": text, "confidence": 0.5}
        await client.call_tool("record_decision", arguments)


async def models(state: State) -> State:
    text = everything()
    settings = current_settings()
    assert settings.openai_api_key is not None
    streams = Scripted(answers=[text])
    async for _ in streams.astream([HumanMessage(text)]):
        pass
    await look.ainvoke({"what": text, "raw": text.encode()})
    client = AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(), base_url=settings.openai_base_url, max_retries=0
    )
    failing = Scripted(answers=[ValueError("no")])
    try:
        await client.models.list()
    except APIStatusError as error:
        failing = Scripted(answers=[ValueError(f"{error} {error.body}")])
    try:
        await failing.ainvoke("?")
    except ValueError as error:
        await report_progress(1, str(error))
    return {"messages": [AIMessage(text, additional_kwargs={"header": (text,)})], "said": {"plain": text, "t": (text,)}}


async def keeps(state: State, runtime: Runtime[Any]) -> State:
    assert runtime.store is not None
    await runtime.store.aput(("kept",), "one", {"plain": everything(), "typed": (everything(),)})
    found = await runtime.store.aget(("kept",), "one")
    assert found is not None
    is_exact = found.value == {"plain": everything(), "typed": (everything(),)}
    said = (
        state["said"] == {"plain": everything(), "t": (everything(),)} and state["messages"][-1].content == everything()
    )
    return {"read_is_exact": is_exact and said}


async def sent(argument: Any) -> State:
    return {"said": {**argument, "again": everything()}}


async def asks(state: State) -> State:
    answer = interrupt({"kind": "leak", "question": everything()})
    return {"answer": answer, "answer_is_exact": answer in secrets()}


async def ends(state: State) -> State:
    if state.get("fails"):
        raise RuntimeError(everything())
    return {}


graph = StateGraph(State)
graph.add_node(reports)
graph.add_node(programs)
graph.add_node(models, cache_policy=CachePolicy())
graph.add_node(keeps)
graph.add_node("sent", RunnableLambda(sent))
graph.add_node(asks)
graph.add_node(ends)
graph.add_edge(START, "reports")
graph.add_edge("reports", "programs")
graph.add_edge("programs", "models")
graph.add_edge("models", "keeps")
graph.add_conditional_edges("keeps", lambda state: [Send("sent", {"of": state["said"]})], ["sent"])
graph.add_edge("sent", "asks")
graph.add_edge("asks", "ends")

failing = StateGraph(State)
failing.add_node(ends)
failing.add_edge(START, "ends")

WORKFLOWS = {
    "leaking": Workflow(graph.compile(store=InMemoryStore(), cache=InMemoryCache())),
    "failing": Workflow(failing, nodes={"ends": Node(max_attempts=1)}),
}
