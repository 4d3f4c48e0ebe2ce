"""Calls of LangChain's tools leave what they did in the log, also where they ask, hand over or call models."""

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from app.progress import CurrentStep, ToolCall
from tests.graphs.chat_models import Scripted
from tests.models.step import Log
from tests.recording import recorded, said
from workers.models import call_recorder


@tool
async def weather(city: str) -> str:
    """Says how it is there."""
    if city == "Atlantis":
        raise ToolException("there is no such city")
    return f"rain in {city}"


@tool
def slowly(numbers: list[int]) -> list[int]:
    """Sorts."""
    return sorted(numbers)


async def test_a_thread_that_is_faster_than_the_log_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_recorder, "AHEAD", 3)

    class Counting(Log):
        most = 0

        async def record_tool_call(self, step: CurrentStep, call: ToolCall) -> int:
            await asyncio.sleep(0)
            self.most = max(self.most, made - len(self.tools))
            return await super().record_tool_call(step, call)

    made = 0

    @tool
    def count() -> str:
        """Counts."""
        nonlocal made
        made += 1
        return str(made)

    log = Counting()
    async with recorded(log) as (_, config):
        await asyncio.to_thread(lambda: [count.invoke({}, config) for _ in range(50)])
    assert len(log.tools) == 50 and log.most <= 5


async def test_tools_are_recorded() -> None:
    asked: Any = {"name": "weather", "args": {"city": "Berlin"}, "id": "call-1", "type": "tool_call"}
    async with recorded() as (log, config):
        assert isinstance(await weather.ainvoke(asked, config), ToolMessage)
        await slowly.ainvoke({"numbers": [2, 1]}, config)
        await asyncio.to_thread(slowly.invoke, {"numbers": [4, 3]}, config)
        with pytest.raises(ToolException):
            await weather.ainvoke({"city": "Atlantis"}, config)
        forgiving = weather.model_copy(update={"handle_tool_error": True})
        await forgiving.ainvoke(asked | {"args": {"city": "Atlantis"}}, config)
    told = [(call.name, call.arguments, call.answer, call.error, call.call_id) for call in log.tools]
    assert told == [
        ("weather", {"city": "Berlin"}, "rain in Berlin", None, "call-1"),
        ("slowly", {"numbers": [2, 1]}, [1, 2], None, None),
        ("slowly", {"numbers": [4, 3]}, [3, 4], None, None),
        ("weather", {"city": "Atlantis"}, None, "ToolException: there is no such city", None),
        ("weather", {"city": "Atlantis"}, "there is no such city", "there is no such city", "call-1"),
    ]
    assert all(call.agent == "writer" and call.duration_ms >= 0 for call in log.tools)


async def test_a_tool_that_asks_is_recorded_when_it_has_ended_and_a_handover_is_no_error() -> None:
    answers: list[Exception | str] = [
        GraphInterrupt(),
        "thanks",
        ParentCommand(Command(goto="boss", graph="__parent__")),
    ]

    @tool
    async def asks() -> str:
        """Asks a person."""
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with recorded() as (log, config):
        with pytest.raises(GraphInterrupt):
            await asks.ainvoke({}, config)
        assert not log.tools
        await asks.ainvoke({}, config)
        with pytest.raises(ParentCommand):
            await asks.ainvoke({}, config)
    assert [(call.answer, call.error) for call in log.tools] == [
        ("thanks", None),
        ({"goto": "boss", "graph": "__parent__"}, None),
    ]


async def test_an_agent_inside_of_a_tool() -> None:
    inner = Scripted(answers=["from within"])

    @tool
    async def delegate(question: str) -> str:
        """Asks another model."""
        return str((await inner.ainvoke(question)).content)  # the config comes to it by itself

    async with recorded() as (log, config):
        await delegate.ainvoke({"question": "why?"}, config)
    assert [call.response["content"] for call in log.calls] == ["from within"]
    assert [(call.name, call.answer) for call in log.tools] == [("delegate", "from within")]


async def test_in_graphs_a_call_is_recorded_once_also_where_the_config_is_handed_on() -> None:
    async def talks(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [await Scripted(answers=["hello"]).ainvoke("?", config)]}

    asked: list[Any] = [
        {"name": "weather", "args": {"city": city}, "id": city, "type": "tool_call"} for city in ("Rome", "Atlantis")
    ]
    forgiving = weather.model_copy(update={"handle_tool_error": True})
    agent = create_agent(Scripted(answers=[AIMessage("both", tool_calls=asked), "it rains"]), [forgiving])
    graph = StateGraph(MessagesState)
    graph.add_node(talks)
    graph.add_node("agent", agent)
    graph.add_edge(START, "talks")
    graph.add_edge("talks", "agent")
    async with recorded() as (log, config):
        await graph.compile().ainvoke({"messages": [HumanMessage("hi")]}, config)
    assert [call.response["content"] for call in log.calls] == ["hello", "both", "it rains"]
    told = {call.call_id: (call.answer, call.error) for call in log.tools}
    assert told == {"Rome": ("rain in Rome", None), "Atlantis": ("there is no such city", "there is no such city")}
    assert len(log.tools) == 2 and said(log) == "hellobothit rains"


async def test_what_is_looked_up_is_recorded_as_a_tool() -> None:
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
            if query == "nothing":
                raise LookupError("no such shelf")
            return [Document(f"about {query}", metadata={"page": 3})]

    async with recorded() as (log, config):
        await Shelf().ainvoke("birds", config)
        with pytest.raises(LookupError):
            await Shelf().ainvoke("nothing", config)
    found, failed = log.tools
    assert (found.name, found.arguments) == ("Shelf", {"query": "birds"})
    assert found.answer == [{"content": "about birds", "metadata": {"page": 3}}]
    assert failed.error == "LookupError: no such shelf"


async def test_an_answer_that_holds_itself_or_can_be_read_once_harms_nothing() -> None:
    @tool
    def odd(kind: str) -> Any:
        """Gives back what no log can hold."""
        itself: list[Any] = []
        itself.append(itself)
        return {"itself": itself, "once": iter("abc")}[kind]

    async with recorded() as (log, config):
        await odd.ainvoke({"kind": "itself"}, config)
        assert "".join(await odd.ainvoke({"kind": "once"}, config)) == "abc"
    assert [call.error for call in log.tools] == [None, None]
