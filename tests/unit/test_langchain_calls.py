"""Calls of LangChain's models leave what they said in the log, whatever calls them and however they end."""

import asyncio
import threading
from typing import Any, Literal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage

from app.errors import LeaseLost
from app.key_shapes import HIDDEN
from app.progress import CurrentStep, ModelCall, Report, recording_myself
from tests.graphs.chat_models import Plain, Scripted, usage
from tests.models.step import Log
from tests.recording import SECRET, recorded, said
from workers.models import call_recorder
from workers.models.recording import recorded_call

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
ASKING = AIMessage(
    "Let me look into the weather of Berlin.",
    id="msg-1",
    additional_kwargs={"reasoning_content": "They want the weather."},
    tool_calls=[{"name": "weather", "args": {"city": "Berlin"}, "id": "call-1", "type": "tool_call"}],
    usage_metadata=usage(1000, 10),
    response_metadata={"model_name": "gpt-5.1-2025", "finish_reason": "tool_calls"},
)


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
    reached = asyncio.Event()

    class Never(asyncio.Event):
        async def wait(self) -> Literal[True]:
            reached.set()
            return await super().wait()

    async with recorded() as (log, config):
        asking = asyncio.create_task(Scripted(answers=["a long answer"], gate=Never()).ainvoke("?", config))
        await reached.wait()
        asking.cancel()
        await asyncio.wait({asking})
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


async def test_what_changes_later_is_recorded_as_it_was() -> None:
    messages: list[Any] = [HumanMessage([{"type": "text", "text": "before"}])]
    async with recorded() as (log, config):
        await asyncio.to_thread(Plain(answers=["so"]).invoke, messages, config)
        messages[0].content[0]["text"] = "after"
    assert log.calls[0].request["messages"][0]["content"] == [{"type": "text", "text": "before"}]


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
