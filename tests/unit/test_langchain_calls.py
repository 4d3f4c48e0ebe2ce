"""Calls of LangChain's models and tools leave what they did in the log, whatever calls them and however they end."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from app.config import Settings
from app.errors import LeaseLost
from app.progress import CurrentStep, ModelCall, Report, ToolCall, current_step, recording_myself
from app.redaction import HIDDEN, Redactor
from tests.graphs.chat_models import Plain, Scripted, usage
from tests.models.step import Log, step_of
from workers.models import call_recorder
from workers.models.langchain_calls import recording_calls
from workers.models.recording import recorded_call

SECRET = "correct horse battery staple"
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
ASKING = AIMessage(
    "Let me look into the weather of Berlin.",
    id="msg-1",
    additional_kwargs={"reasoning_content": "They want the weather."},
    tool_calls=[{"name": "weather", "args": {"city": "Berlin"}, "id": "call-1", "type": "tool_call"}],
    usage_metadata=usage(1000, 10),
    response_metadata={"model_name": "gpt-5.1-2025", "finish_reason": "tool_calls"},
)


@asynccontextmanager
async def recorded(log: Log | None = None, **settings: Any) -> AsyncIterator[tuple[Log, Any]]:
    """A node's config, and the log of what it calls."""
    with step_of("writer", Path(), log or Log(), Settings(**settings)) as log:
        async with recording_calls(current_step(), Settings(**settings), Redactor([SECRET])) as callbacks:
            yield log, {"callbacks": callbacks}


def said(log: Log, kind: str = "text") -> str:
    found = [report for report in log.reports if report.phase == "think" and report.details["kind"] == kind]
    return "".join(report.message.removeprefix("💭 ") for report in found)


@pytest.mark.parametrize("model", [Scripted, Plain])
async def test_a_model_that_is_only_invoked_is_heard_and_recorded(model: type[Scripted]) -> None:
    plain_answer = await Plain(answers=[ASKING]).ainvoke("how is it in Berlin?")
    asked = model(answers=[ASKING])
    async with recorded() as (log, config):
        answer = await asked.bind_tools(["weather"]).ainvoke("how is it in Berlin?", config)
        assert log.calls, "the call is in the log before the agent goes on"
    assert answer == plain_answer and type(answer) is type(plain_answer)
    (call,) = log.calls
    assert call.request["messages"] == [{"type": "human", "content": "how is it in Berlin?"}]
    assert call.request["parameters"]["tools"] == ["weather"]
    assert call.response["content"] == ASKING.content and call.response["tool_calls"] == ASKING.tool_calls
    assert (call.agent, call.provider, call.model) == ("writer", "openai", "gpt-5.1")
    assert call.usage == {"input_tokens": 1000, "output_tokens": 10} and call.cost == pytest.approx(0.00135)
    assert call.error is None and call.duration_ms >= 0 and call.trace["response_id"] == "msg-1"
    if model is Scripted:
        assert said(log) == ASKING.content and said(log, "reasoning") == "They want the weather."
        assert len(log.reports) <= 4, "the first words at once, then what was gathered"
    else:
        assert not log.reports


async def test_an_id_that_langchain_draws_is_drawn_for_pieces_too() -> None:
    async with recorded() as (log, config):
        answer = await Scripted(answers=["so be it"]).ainvoke("well?", config)
        plain_answer = await Plain(answers=["so be it"]).ainvoke("well?", config)
    assert answer.id and plain_answer.id
    assert answer.id.startswith("lc_run--") and plain_answer.id.startswith("lc_run--")
    assert answer.model_copy(update={"id": None}) == plain_answer.model_copy(update={"id": None})
    assert all("response_id" not in call.trace for call in log.calls)


async def test_words_come_while_the_model_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_recorder, "EVERY_SECONDS", 0.001)
    heard, gate = asyncio.Event(), asyncio.Event()

    class Listening(Log):
        async def report(self, step: CurrentStep, report: Report) -> int:
            heard.set()
            return await super().report(step, report)

    async with recorded(Listening()) as (log, config):
        asking = asyncio.create_task(Scripted(answers=["a b c and so on"], gate=gate).ainvoke("?", config))
        async with asyncio.timeout(10):
            await heard.wait()
        assert not asking.done() and not log.calls
        gate.set()
        await asking
    assert said(log) == "a b c and so on"


async def test_a_log_that_is_slow_holds_up_no_model_and_gathers_its_words() -> None:
    gate = asyncio.Event()

    class Slow(Log):
        async def report(self, step: CurrentStep, report: Report) -> int:
            await gate.wait()
            return await super().report(step, report)

    text = "word " * 10_000
    async with recorded(Slow()) as (log, config):
        pieces = 0
        async for _ in Scripted(answers=[text]).astream("?", config):
            pieces += 1
            if pieces == 10_000:
                assert not log.reports
                gate.set()
    assert said(log) == text and len(log.reports) < 20


async def test_a_stream_that_an_agent_reads_itself_is_recorded_once() -> None:
    async with recorded() as (log, config):
        async for _ in Scripted(answers=["one two"]).astream("?", config):
            pass
    assert [call.response["content"] for call in log.calls] == ["one two"] and said(log) == "one two"


@pytest.mark.parametrize("switch", [{"disable_streaming": True}, {"tags": ["nostream"]}])
async def test_a_model_that_is_not_to_be_heard_is_not_but_recorded(switch: dict[str, Any]) -> None:
    model = Scripted(answers=["quiet"], **switch)
    async with recorded() as (log, config):
        await model.ainvoke("?", config)
    assert not log.reports and len(log.calls) == 1
    assert model.streamed == (0 if "disable_streaming" in switch else 1)


async def test_digest_makes_no_model_stream_and_off_records_nothing() -> None:
    model = Scripted(answers=["in private"])
    async with recorded(record_models="digest") as (log, config):
        await model.ainvoke("?", config)
    assert model.streamed == 0 and not log.reports
    assert len(log.calls) == 1, "what is left of the call, the reporter says"
    async with recorded(record_models="off") as (log, config):
        assert config == {"callbacks": []}
        await model.ainvoke("?", config)
    assert model.streamed == 0 and not log.reports and not log.calls


async def test_a_secret_is_hidden_also_where_it_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_recorder, "EVERY_SECONDS", 0)
    text = f"The key is {KEY}, and they say: {SECRET}! Authorization: Bearer abcdefghijklmnop0123 that is all"
    async with recorded() as (log, config):
        await Scripted(answers=[text]).ainvoke("?", config)
    assert said(log) == f"The key is {HIDDEN}, and they say: {HIDDEN}! Authorization: Bearer {HIDDEN} that is all"
    assert len(log.reports) > 2


async def test_parallel_calls_keep_their_words_apart() -> None:
    async with recorded() as (log, config):
        await asyncio.gather(*(Scripted(answers=[f"answer {n} is {n}"]).ainvoke(f"{n}?", config) for n in range(20)))
    assert len(log.calls) == 20
    for call in log.calls:
        of_call = [r.message[2:] for r in log.reports if r.details["run_id"] == call.trace["run_id"]]
        assert "".join(of_call) == call.response["content"]
        assert call.request["messages"][0]["content"].removesuffix("?") in call.response["content"]


async def test_calls_from_threads_and_other_loops_are_recorded() -> None:
    async with recorded() as (log, config):
        await asyncio.to_thread(Scripted(answers=["from a thread"]).invoke, "?", config)
        Scripted(answers=["from the loop itself"]).invoke("?", config)  # the loop stands still meanwhile
        await asyncio.to_thread(lambda: asyncio.run(Scripted(answers=["from another loop"]).ainvoke("?", config)))
        thread = threading.Thread(target=Scripted(answers=["from a bare thread"]).invoke, args=("?", config))
        thread.start()
        await asyncio.to_thread(thread.join)
    said_in_order = ["from a thread", "from the loop itself", "from another loop", "from a bare thread"]
    assert [call.response["content"] for call in log.calls] == said_in_order
    assert said(log) == "".join(said_in_order)


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


async def test_models_of_texts_and_answers_from_the_cache() -> None:
    cache = InMemoryCache()
    async with recorded() as (log, config):
        assert await FakeListLLM(responses=["a text"]).ainvoke("complete this", config) == "a text"
        for _ in range(2):
            await Plain(answers=[ASKING], cache=cache).ainvoke("again?", config)
        await FakeListChatModel(responses=["letters"]).ainvoke("?", config)
    text, paid, cached, letters = log.calls
    assert text.request["prompt"] == "complete this" and text.response == {"text": "a text"}
    assert paid.usage and (cached.usage, cached.cost, cached.trace["answered_by"]) == ({}, 0.0, "cache")
    assert letters.response["content"] == "letters" and letters.cost is None


async def test_a_failure_is_recorded_and_goes_on_its_way() -> None:
    async with recorded() as (log, config):
        with pytest.raises(ConnectionError, match="away"):
            await Scripted(answers=[ConnectionError("the provider is away")]).ainvoke("?", config)
        fallback = Scripted(answers=[RuntimeError("no")]).with_fallbacks([Plain(answers=["yes"])])
        assert (await fallback.ainvoke("?", config)).content == "yes"
    assert [call.error for call in log.calls] == ["ConnectionError: the provider is away", "RuntimeError: no", None]
    assert [call.response for call in log.calls[:2]] == [None, None]


async def test_a_call_that_is_cancelled_is_recorded_as_such() -> None:
    async with recorded() as (log, config):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Scripted(answers=["a long answer"], gate=asyncio.Event()).ainvoke("?", config)
    (call,) = log.calls
    assert call.error == call_recorder.UNFINISHED and call.response is None
    assert said(log) == "a lon"


async def test_after_the_end_of_the_node_nothing_is_recorded() -> None:
    gate = asyncio.Event()
    async with recorded() as (log, config):
        left = asyncio.create_task(Scripted(answers=["too late"], gate=gate).ainvoke("?", config))
        await asyncio.sleep(0)
        later = config
    before = (list(log.reports), list(log.calls))
    gate.set()
    assert (await left).content == "too late"
    await Scripted(answers=["later"]).ainvoke("?", later)
    assert (log.reports, log.calls) == before


async def test_what_an_agent_records_itself_is_recorded_once() -> None:
    model = Scripted(answers=["once"])
    async with recorded() as (log, config):
        async with recorded_call("openai", "gpt-5.1", {"ask": "?"}) as recording:
            recording.response = (await model.ainvoke("?", config)).content
        with recording_myself():
            await asyncio.to_thread(model.invoke, "?", config)
        await model.ainvoke("?", config)
    assert [call.request.get("ask") for call in log.calls] == ["?", None]
    assert said(log) == "once"


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


async def test_what_changes_later_is_recorded_as_it_was() -> None:
    messages: list[Any] = [HumanMessage([{"type": "text", "text": "before"}])]
    async with recorded() as (log, config):
        await asyncio.to_thread(Plain(answers=["so"]).invoke, messages, config)
        messages[0].content[0]["text"] = "after"
    assert log.calls[0].request["messages"][0]["content"] == [{"type": "text", "text": "before"}]


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


async def test_what_the_log_does_not_take_ends_the_attempt_not_the_call() -> None:
    class Fenced(Log):
        async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
            raise LeaseLost

    answer: Any = None
    with pytest.raises(LeaseLost):
        async with recorded(Fenced()) as (_, config):
            answer = await Scripted(answers=["heard"]).ainvoke("?", config)
            await Scripted(answers=["and again"]).ainvoke("?", config)
    assert answer.content == "heard"


async def test_an_attempt_that_is_cancelled_does_not_wait_for_the_log() -> None:
    class Stuck(Log):
        async def record_model_call(self, step: CurrentStep, call: ModelCall) -> int:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody gets here")

    async def attempt() -> None:
        async with recorded(Stuck()) as (_, config):
            await Scripted(answers=["?"]).ainvoke("?", config)

    reached = asyncio.Event()
    attempting = asyncio.create_task(attempt())
    async with asyncio.timeout(10):
        await reached.wait()
        attempting.cancel()
        await asyncio.wait({attempting})
    assert attempting.cancelled()
