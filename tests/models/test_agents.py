"""The agents' model forms, with the real client over real HTTP, but without a worker."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app.errors import ModelFaltered, ModelRefused, NotNow, ProviderNotSetUp, TaskNeedsModel
from tests.models.conftest import give_up
from tests.models.scripts import PLAN, decisions, found, judgement, plan
from tests.models.servers import ModelServer, Reply
from tests.models.step import Log, change_settings, step_of
from workers.agents.designing import Plan
from workers.agents.state import RepairState
from workers.agents.supervisor import supervisor
from workers.models.chat import Message, ask, search
from workers.models.responses import respond

TASK = "write a module"


@pytest.fixture
def log(models: ModelServer, tmp_path: Path) -> Iterator[Log]:
    settings = models.configured(claude_command="true")  # for the supervisor it is enough that there is one
    with step_of("supervisor", tmp_path, Log(), settings) as log:
        yield log


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (Reply("I would rather not say."), "Invalid JSON"),
        (judgement("plumber"), "Input should be 'research', 'architect' or 'codesmith'"),
        (judgement("research", confidence=3), "less than or equal to 1"),
    ],
)
async def test_a_decision_that_cannot_be_used_is_asked_for_once_more(
    models: ModelServer, log: Log, bad: Reply, problem: str
) -> None:
    models.says("chat", bad, *decisions("research"))
    command = await supervisor(RepairState(task=TASK))
    assert command.goto == ["research"]
    again = models.requests["chat"][1]["messages"]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert problem in again[-1]["content"]
    assert not [report for report in log.reports if "fallback" in report.details]
    assert len(log.calls) == 2


async def test_after_two_such_decisions_the_rules_decide_and_the_event_says_so(models: ModelServer, log: Log) -> None:
    models.says("chat", Reply("no"), judgement("plumber"))
    command = await supervisor(RepairState(task=TASK))
    assert command.goto == ["research", "architect"]
    told = [report.details["fallback"] for report in log.reports if report.phase == "decision"]
    assert len(told) == 2 and all("decided nothing usable: next_agent: Input should be" in text for text in told)


async def test_after_all_its_turns_the_model_is_not_asked_any_more(models: ModelServer, log: Log) -> None:
    change_settings(max_turns=2)
    turn = {"next_agent": "research", "reasoning": "once more"}
    command = await supervisor(RepairState(task=TASK, decisions=[turn, turn]))  # type: ignore[list-item]  # TypedDict
    assert command.goto == ["research", "architect"] and not models.requests["chat"]


async def test_a_paid_answer_is_not_paid_for_again(models: ModelServer, log: Log) -> None:
    models.says("chat", Reply("no"), *decisions("research"))
    await supervisor(RepairState(task=TASK))
    await supervisor(RepairState(task=TASK))  # as another attempt does: both answers are in the log
    assert len(models.requests["chat"]) == 2
    models.says("perplexity", found())
    first, second = await search("what?", provider="perplexity"), await search("what?", provider="perplexity")
    assert first == second and first.citations and len(models.requests["perplexity"]) == 1


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"codesmith": "rules"}, TaskNeedsModel, "set ANTHROPIC_API_KEY"),
        ({"claude_command": "/no/such"}, ProviderNotSetUp, "there is no Claude CLI"),
        ({"claude_permission_mode": "bypassPermissions"}, ProviderNotSetUp, "needs STELLWERK_SANDBOX"),
        ({"research": "perplexity", "perplexity_api_key": None}, ProviderNotSetUp, "PERPLEXITY_API_KEY"),
    ],
)
async def test_what_the_chosen_agents_cannot_do_fails_at_once(
    models: ModelServer, log: Log, changes: Any, error: Any, says: str
) -> None:
    change_settings(**changes)
    with pytest.raises(error, match=says):
        await supervisor(RepairState(task=TASK))
    assert not models.requests["chat"]


async def test_out_of_nothing_rules_make_nothing(log: Log) -> None:
    change_settings(openai_api_key=None, openai_base_url=None, perplexity_api_key=None, anthropic_api_key=None)
    with pytest.raises(TaskNeedsModel, match="set ANTHROPIC_API_KEY"):
        await supervisor(RepairState(task=TASK))
    command = await supervisor(RepairState(task=TASK, path="/somewhere"))
    assert command.goto == ["research", "architect"]


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply("stop", status=429, headers={"retry-after": "7"}), NotNow, "answered 429"),
        (Reply("stop", status=429, headers={"retry-after-ms": "1500"}), NotNow, "answered 429"),
        (Reply("stop", status=429), ModelFaltered, "answered 429"),
        (Reply("spent", status=429, code="insufficient_quota"), ModelRefused, "has nothing left"),
        (Reply("who?", status=401), ModelRefused, "is OPENAI_API_KEY right"),
        (Reply("what?", status=400), ModelRefused, "answered 400"),
        (Reply("down", status=502), ModelFaltered, "answered 502"),
        (Reply("soon", status=503, headers={"retry-after": "2"}), NotNow, "answered 503"),
        (Reply(fault="malformed"), ModelFaltered, "no whole answer"),
        (Reply(fault="truncated"), ModelFaltered, "cannot be reached"),
    ],
)
async def test_what_a_providers_errors_mean(models: ModelServer, log: Log, reply: Reply, error: Any, says: str) -> None:
    models.says("chat", reply)
    with pytest.raises(error, match=says) as raised:
        await ask(Plan, [Message("user", "plan")])
    assert raised.type is error
    (call,) = log.calls
    assert call.error and call.error.startswith(error.__name__)
    if isinstance(raised.value, NotNow):
        assert raised.value.delay.total_seconds() in {7, 1.5, 2}


async def test_reasoning_and_text_are_few_thoughts(models: ModelServer, log: Log) -> None:
    long = plan()
    long.reasoning = "word " * 2000
    models.says("responses", long)
    answer = await respond(Plan, instructions="be brief", question="plan")
    assert answer.parsed is not None and answer.parsed.model_dump() == PLAN
    thoughts = [report for report in log.reports if report.phase == "think"]
    assert (
        "".join(t.message.removeprefix("💭 ") for t in thoughts if t.details["kind"] == "reasoning") == long.reasoning
    )
    assert "".join(t.message.removeprefix("💭 ") for t in thoughts if t.details["kind"] == "text") == json.dumps(PLAN)
    assert len(thoughts) < 12  # of a thousand pieces
    (call,) = log.calls
    assert call.usage == {"input_tokens": 1000, "output_tokens": 100} and call.cost and call.trace["response_id"]


async def test_an_answer_of_another_type_is_an_answer(models: ModelServer, log: Log) -> None:
    models.says("responses", Reply('{"summary": 5}'))
    answer = await respond(Plan, instructions="", question="plan")
    assert answer.parsed is None and "steps: Field required" in (answer.problem or "")


class Anything(BaseModel, extra="forbid"):
    text: str


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "stall", "malformed"])
async def test_faults_of_a_stream(log: Log, kind: Any) -> None:
    """By a fault server that somebody else wrote."""
    try:
        from llmock.scenarios import StreamFault
        from llmock.testing import LLMockServer
    except ImportError:
        give_up("the fault server", "llmock")
    with LLMockServer() as server:
        change_settings(openai_base_url=server.base_url("openai"), model_time_limit=timedelta(seconds=1))
        server.state.scenarios.add(StreamFault(kind, after_chunks=3, stall_seconds=5))
        with pytest.raises(ModelFaltered):
            await respond(Anything, instructions="", question="hello")
    (call,) = log.calls
    assert call.error and "ModelFaltered" in call.error
