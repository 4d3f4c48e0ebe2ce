"""LangChain's middleware about what the model reads: summaries, context, private data, and lists of things to do."""

from typing import Any

from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
)
from langchain_core.tools import tool

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says


@tool
async def contact(word: str) -> str:
    """Finds an address."""
    happened(f"contact {word}")
    return f"{word}@example.com at 10.0.0.1"


def summarizing(**options: Any) -> SummarizationMiddleware[Any, Any]:
    summary = says(lambda messages: f"summary of {len(messages[-1].text.splitlines())} lines", label="summary")
    return SummarizationMiddleware(summary, **options)


def turn_of(messages: Any) -> int:
    """Which turn it is, also where a summary has taken the place of earlier ones."""
    calls = [each["id"] for message in messages for each in getattr(message, "tool_calls", [])]
    return max((int(each[1:]) for each in calls), default=0)


def goes_on(last: int) -> Any:
    """Two calls of tools in each turn, until the last."""

    def turn(messages: Any) -> Any:
        number = turn_of(messages) + 1
        if number > last:
            return heard
        return [call("look_up", f"a{number}", word=f"w{number}"), call("pay", f"b{number}", amount=number)]

    return says(*[turn] * (last + 1))


def case(
    name: str, model: Any, *middleware: Any, tools: Any = (look_up, pay, contact), said: str = "go", **options: Any
) -> Case:
    return Case(f"agent_{name}", "agents: memory", agent(model, tools, *middleware), asks(said), **options)


MAIL = "write to ada@example.com from 10.0.0.1, card 4111 1111 1111 1111"
CONTACTS = [call("contact", "a", word="ada"), call("contact", "b", word="bob")]
TODOS = [
    call(
        "write_todos",
        "a",
        todos=[{"content": "first", "status": "in_progress"}, {"content": "second", "status": "pending"}],
    )
]
DONE = [call("write_todos", "c", todos=[{"content": "first", "status": "completed"}])]
CLEAR: dict[str, Any] = {"trigger": 10, "keep": 1}

CASES = [
    case("summary", goes_on(4), summarizing(trigger=("messages", 6), keep=("messages", 2))),
    case("summary_by_tokens", goes_on(4), summarizing(trigger=("tokens", 60), keep=("messages", 3))),
    case("summaries_twice", goes_on(7), summarizing(trigger=[("messages", 5)], keep=("messages", 3))),
    case("summary_that_is_not_needed", goes_on(1), summarizing(trigger=("messages", 50))),
    case(
        "summary_in_vain",
        goes_on(3),
        SummarizationMiddleware(
            says(failures=9, error=ValueError("no summary")), trigger=("messages", 3), keep=("messages", 1)
        ),
        raises="no summary",
    ),
    case("context_cleared", goes_on(4), ContextEditingMiddleware(edits=[ClearToolUsesEdit(**CLEAR)])),
    case(
        "context_cleared_of_inputs",
        goes_on(4),
        ContextEditingMiddleware(edits=[ClearToolUsesEdit(clear_tool_inputs=True, **CLEAR)]),
    ),
    case(
        "context_cleared_but_for",
        goes_on(4),
        ContextEditingMiddleware(edits=[ClearToolUsesEdit(exclude_tools=["pay"], placeholder="[gone]", **CLEAR)]),
    ),
    case("private_redacted", says(CONTACTS, heard), PIIMiddleware("email", apply_to_tool_results=True), said=MAIL),
    case(
        "private_masked",
        says(heard),
        PIIMiddleware("credit_card", strategy="mask"),
        PIIMiddleware("ip", strategy="hash"),
        said=MAIL,
    ),
    case(
        "private_in_the_output",
        says(CONTACTS, heard),
        PIIMiddleware("email", apply_to_input=False, apply_to_output=True),
        said=MAIL,
    ),
    case(
        "private_everywhere",
        says(CONTACTS, heard),
        PIIMiddleware("email", strategy="hash", apply_to_output=True, apply_to_tool_results=True),
        PIIMiddleware("ip", apply_to_tool_results=True),
        said=MAIL,
    ),
    case("private_of_ones_own", says(heard), PIIMiddleware("order", detector=r"ORD-\d+"), said="where is ORD-17?"),
    case(
        "private_blocked",
        says(heard),
        PIIMiddleware("email", strategy="block"),
        said=MAIL,
        raises="Detected 1 instance",
    ),
    case(
        "private_blocked_in_a_result",
        says(CONTACTS, heard),
        PIIMiddleware("email", strategy="block", apply_to_input=False, apply_to_tool_results=True),
        raises="instance(s) of email",
    ),
    case("todos", says(TODOS, [call("look_up", "b", word="x")], DONE, heard), TodoListMiddleware()),
    case(
        "todos_beside_tools",
        says([*TODOS, call("pay", "p", amount=1)], [*DONE, call("look_up", "q", word="x")], heard),
        TodoListMiddleware(system_prompt="Plan."),
    ),
    case("todos_twice_at_a_time", says([*TODOS, *DONE], TODOS, heard), TodoListMiddleware()),
    case(
        "todos_that_do_not_fit",
        says([call("write_todos", "a", todos=[{"content": "x", "status": "lost"}])], heard),
        TodoListMiddleware(),
    ),
]
