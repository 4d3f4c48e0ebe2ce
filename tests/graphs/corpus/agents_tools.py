"""LangChain's agents and their tools: several at a time, with and without ids, and tools that return commands."""

import operator
from typing import Annotated, Any

from langchain.agents import AgentState
from langchain.agents.middleware import wrap_model_call
from langchain.tools import InjectedToolCallId
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.tools import tool
from langgraph.graph.ui import AnyUIMessage, push_ui_message, ui_message_reducer
from langgraph.types import Command, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says

TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]
THREE = [call("look_up", "a", word="x"), call("look_up", "b", word="y"), call("look_up", "c", word="z")]


class Found(AgentState[Any], total=False):
    found: Annotated[list[str], operator.add]
    ui: Annotated[list[AnyUIMessage], ui_message_reducer]


@tool
def find(word: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Finds a word, and notes it in the state."""
    happened(f"find {word}")
    return Command(update={"found": [word], "messages": [ToolMessage(f"found {word}", tool_call_id=tool_call_id)]})


@tool
async def show(word: str) -> str:
    """Shows a word in the user interface."""
    happened(f"show {word}")
    push_ui_message("card", {"word": word}, id=f"ui-{word}")
    return f"shown {word}"


@tool(return_direct=True)
async def last_word(word: str) -> str:
    """Ends the conversation."""
    happened(f"last word {word}")
    return word


@tool(response_format="content_and_artifact")
async def measure(word: str) -> tuple[str, dict[str, Any]]:
    """Measures a word."""
    happened(f"measure {word}")
    return f"{len(word)} letters", {"letters": list(word), "length": len(word)}


@tool
async def describe(word: str) -> list[dict[str, Any]]:
    """Describes a word in blocks."""
    happened(f"describe {word}")
    return [{"type": "text", "text": f"about {word}"}, {"type": "text", "text": "that is all"}]


@tool
async def breaks(word: str) -> str:
    """Breaks."""
    happened(f"break {word}")
    raise ValueError(f"{word} is broken")


@tool
async def ask(question: str) -> str:
    """Asks a person."""
    happened(f"before {question}")
    answer = interrupt({"question": question})
    happened(f"after {question}")
    return f"answer: {answer}"


@wrap_model_call
async def without_ids(request: Any, handler: Any) -> AIMessage:
    """As a model that is no LangChain model would answer: LangGraph draws the id."""
    message: AIMessage = (await handler(request)).result[0]
    return message.model_copy(update={"id": None})


def case(name: str, *turns: Any, tools: Any = (look_up, pay), ids: bool = True, **options: Any) -> Case:
    raises, answers = options.pop("raises", None), options.pop("answers", ())
    middleware = options.pop("middleware", ())
    graph = agent(says(*turns, ids=ids), tools, *middleware, **options)
    return Case(f"agent_{name}", "agents: tools", graph, asks("look x up"), answers=answers, raises=raises)


INVALID = AIMessage(
    "",
    tool_calls=[call("look_up", "a", word="x")],
    invalid_tool_calls=[invalid_tool_call(name="pay", args='{"amount": ', id="b", error="cut off")],
)

CASES = [
    case("says_something", "hello"),
    case("says_something_without_an_id", "hello", ids=False),
    case("one_tool", [call("look_up", "a", word="x")], heard),
    case("two_tools_at_a_time", TWO, heard),
    case("two_tools_at_a_time_without_ids", TWO, heard, ids=False),
    case("two_tools_and_ids_of_langgraph", TWO, heard, middleware=[without_ids]),
    case("three_tools_at_a_time", THREE, heard),
    case("the_same_call_twice", [call("pay", "a", amount=1), call("pay", "b", amount=1)], heard),
    case("three_rounds_of_two_tools", TWO, [{**each, "id": f"{each['id']}2"} for each in TWO], THREE, heard),
    case(
        "twenty_tools_at_a_time",
        [call("look_up", f"call-{number}", word=f"w{number}") for number in range(20)],
        heard,
        ids=False,
    ),
    case(
        "commands_of_two_tools",
        [call("find", "a", word="x"), call("find", "b", word="y"), call("look_up", "c", word="z")],
        heard,
        tools=(find, look_up),
        state_schema=Found,
    ),
    case(
        "user_interface",
        [call("show", "a", word="x"), call("show", "b", word="y")],
        heard,
        tools=[show],
        state_schema=Found,
    ),
    case("return_direct", [call("last_word", "a", word="bye")], heard, tools=[last_word]),
    case("return_direct_beside_another", [call("last_word", "a", word="bye"), TWO[1]], heard, tools=[last_word, pay]),
    case("artifact", [call("measure", "a", word="abc")], heard, tools=[measure]),
    case("blocks", [call("describe", "a", word="abc"), call("describe", "b", word="d")], heard, tools=[describe]),
    case("unknown_tool", [call("nothing", "a", word="x"), TWO[1]], heard),
    case("bad_arguments", [call("pay", "a", amount="much"), TWO[0] | {"id": "b"}], heard),
    case("malformed_call", INVALID, heard),
    case("tool_that_breaks", [call("breaks", "a", word="x")], heard, tools=[breaks], raises="x is broken"),
    case("tool_that_asks", [call("ask", "a", question="q")], heard, tools=[ask], answers=["yes"]),
    case(
        "two_tools_that_ask",
        [call("ask", "a", question="q"), call("ask", "b", question="r")],
        heard,
        tools=[ask],
        answers=["yes", "no"],
    ),
    case(
        "tool_that_asks_beside_a_paid_one",
        [call("ask", "a", question="q"), TWO[1]],
        heard,
        tools=[ask, pay],
        answers=["yes"],
    ),
    case(
        "tools_that_ask_in_two_turns",
        [call("ask", "a", question="q")],
        [call("ask", "b", question="r")],
        heard,
        tools=[ask],
        answers=["yes", "no"],
    ),
]
