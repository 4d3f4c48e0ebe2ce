"""LangChain's retries, fallbacks and errors of tools and models: each is called as often as in plain LangGraph."""

from typing import Any

from langchain.agents.middleware import (
    ModelFallbackMiddleware,
    ModelRefusalMiddleware,
    ModelRetryMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.types import interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says

AT_ONCE: dict[str, Any] = {"initial_delay": 0.0, "jitter": False}


@tool
async def flaky(word: str) -> str:
    """Fails twice, for each word."""
    if happened(f"try {word}") <= 2:
        raise ConnectionError(f"{word} is away")
    return f"{word} at last"


@tool
def picky(word: str) -> str:
    """Refuses a word."""
    happened(f"pick {word}")
    if word == "bad":
        raise ValueError("not this one")
    raise KeyError("broken inside")


@tool
async def flaky_and_asks(word: str) -> str:
    """Fails once, then asks, then fails once more."""
    if happened(f"try {word}") == 1:
        raise ConnectionError("away before the question")
    answer = interrupt(f"{word}?")
    if happened(f"answered {word}") == 1:
        raise ConnectionError("away after the question")
    return f"{word}: {answer}"


def only_values(error: Exception, request: Any) -> str | None:
    return f"{request.tool_call['name']}: {error}" if isinstance(error, ValueError) else None


def case(name: str, model: Any, tools: Any, *middleware: Any, **options: Any) -> Case:
    return Case(f"agent_retry_{name}", "agents: retries", agent(model, tools, *middleware), asks("go"), **options)


FLAKY = [call("flaky", "a", word="x")]
TWO_FLAKY = [call("flaky", "a", word="x"), call("flaky", "b", word="y"), call("pay", "c", amount=1)]
PICKY = [call("picky", "a", word="bad")]
LOOK = [call("look_up", "a", word="x")]
REFUSAL = AIMessage([{"type": "refusal", "refusal": "I will not", "explanation": "no"}])

CASES = [
    case("of_a_tool", says(FLAKY, heard), [flaky], ToolRetryMiddleware(max_retries=2, **AT_ONCE)),
    case("of_two_tools", says(TWO_FLAKY, heard), [flaky, pay], ToolRetryMiddleware(max_retries=2, **AT_ONCE)),
    case("of_a_tool_in_vain", says(FLAKY, heard), [flaky], ToolRetryMiddleware(max_retries=1, **AT_ONCE)),
    case(
        "of_two_tools_in_vain",
        says(TWO_FLAKY, heard),
        [flaky, pay],
        ToolRetryMiddleware(max_retries=1, on_failure=lambda error: f"told: {error}", **AT_ONCE),
    ),
    case(
        "of_a_tool_is_an_error",
        says(PICKY, heard),
        [picky],
        ToolRetryMiddleware(max_retries=1, on_failure="error", **AT_ONCE),
        raises="not this one",
    ),
    case(
        "of_named_tools_only",
        says([FLAKY[0], call("picky", "b", word="bad")], heard),
        [flaky, picky],
        ToolErrorMiddleware(only_values),
        ToolRetryMiddleware(tools=["flaky"], **AT_ONCE),
    ),
    case(
        "of_certain_errors_only",
        says(PICKY, heard),
        [picky],
        ToolRetryMiddleware(retry_on=(ConnectionError,), **AT_ONCE),
        raises="not this one",
    ),
    case(
        "of_a_tool_that_asks",
        says([call("flaky_and_asks", "a", word="x")], heard),
        [flaky_and_asks],
        ToolRetryMiddleware(max_retries=3, **AT_ONCE),
        answers=["yes", "once more"],
    ),
    case("tool_error_told", says(PICKY, heard), [picky], ToolErrorMiddleware(only_values)),
    case(
        "tool_error_not_told",
        says([call("picky", "a", word="good")], heard),
        [picky],
        ToolErrorMiddleware(only_values),
        raises="broken inside",
    ),
    case("of_a_model", says(LOOK, heard, failures=2), [look_up], ModelRetryMiddleware(**AT_ONCE)),
    case(
        "of_a_model_without_ids", says(LOOK, heard, failures=2, ids=False), [look_up], ModelRetryMiddleware(**AT_ONCE)
    ),
    case(
        "of_a_model_in_vain", says(LOOK, heard, failures=2), [look_up], ModelRetryMiddleware(max_retries=1, **AT_ONCE)
    ),
    case(
        "of_a_model_is_an_error",
        says(heard, failures=9, error=ValueError("no such model")),
        [],
        ModelRetryMiddleware(max_retries=2, on_failure="error", **AT_ONCE),
        raises="no such model",
    ),
    case(
        "fallback",
        says(LOOK, heard, label="first", failures=1),
        [look_up],
        ModelFallbackMiddleware(says(LOOK, heard, label="second")),
    ),
    case(
        "second_fallback",
        says(LOOK, heard, label="first", failures=9),
        [look_up],
        ModelFallbackMiddleware(says(label="second", failures=9), says(LOOK, heard, label="third")),
    ),
    case(
        "fallbacks_in_vain",
        says(label="first", failures=9, error=ValueError("first is gone")),
        [],
        ModelFallbackMiddleware(says(label="second", failures=9, error=ValueError("second is gone"))),
        raises="second is gone",
    ),
    case(
        "refusal_and_fallback",
        says(REFUSAL, label="first"),
        [look_up],
        ModelFallbackMiddleware(says(LOOK, heard, label="second")),
        ModelRefusalMiddleware(),
    ),
    case("refusal_is_an_error", says(REFUSAL), [], ModelRefusalMiddleware(), raises="I will not"),
    case("refusal_is_an_answer", says(REFUSAL), []),
]
