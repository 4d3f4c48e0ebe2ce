"""LangGraph's own prebuilt parts: `ToolNode` in a graph of one's own, and `create_react_agent`."""

import operator
import warnings
from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.prebuilt import InjectedState, ToolNode, create_react_agent, tools_condition
from langgraph.prebuilt.chat_agent_executor import AgentState
from langgraph.types import Command, Send, interrupt
from langgraph.warnings import LangGraphDeprecatedSinceV10
from pydantic import BaseModel

from tests.graphs.cases import Case
from tests.graphs.corpus.agents_tools import ask, breaks
from tests.graphs.effects import happened
from tests.graphs.scripted import Agent, asks, call, heard, look_up, pay, says


class Verdict(BaseModel):
    good: bool
    why: str


class Visits(MessagesState, total=False):
    visits: Annotated[list[str], operator.add]
    visitor: str


with warnings.catch_warnings():
    warnings.simplefilter("ignore", LangGraphDeprecatedSinceV10)

    class Counted(AgentState):
        count: int


@tool
def visit(
    place: str, tool_call_id: Annotated[str, InjectedToolCallId], visitor: Annotated[str, InjectedState("visitor")]
) -> Command[Any]:
    """Visits a place, and says so in the state."""
    happened(f"{visitor} visits {place}")
    message = ToolMessage(f"{visitor} was in {place}", tool_call_id=tool_call_id)
    return Command(update={"visits": [place], "messages": [message]})


@tool
async def leave(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Leaves the loop."""
    happened("leave")
    return Command(goto="goodbye", update={"messages": [ToolMessage("left", tool_call_id=tool_call_id)]})


def loop(*turns: Any, tools: Any = (look_up, pay), ids: bool = True, **options: Any) -> StateGraph[Any]:
    """A model and a `ToolNode`, as in LangGraph's documentation."""
    model = says(*turns, ids=ids).bind_tools(list(tools))

    async def chat(state: Visits) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def goodbye(state: Visits) -> dict[str, Any]:
        push_message(AIMessage(f"goodbye after {len(state['messages'])}", id="goodbye"))
        return {"visits": ["home"]}

    graph = StateGraph(Visits)
    graph.add_node(chat)
    graph.add_node("tools", ToolNode(list(tools), **options))
    graph.add_node(goodbye)
    graph.add_edge(START, "chat")
    graph.add_conditional_edges("chat", tools_condition)
    graph.add_edge("tools", "chat")
    return graph


def fanned_out(*turns: Any) -> StateGraph[Any]:
    """Each call of a tool is sent to the `ToolNode` by itself."""

    def each_call(state: MessagesState) -> list[Send] | str:
        last = state["messages"][-1]
        return [Send("tools", [each]) for each in getattr(last, "tool_calls", ())] or END

    async def chat(state: MessagesState) -> dict[str, Any]:
        return {"messages": await says(*turns, ids=False).ainvoke(state["messages"])}

    graph = StateGraph(MessagesState)
    graph.add_node(chat)
    graph.add_node("tools", ToolNode([look_up, pay, ask]))
    graph.add_edge(START, "chat")
    graph.add_conditional_edges("chat", each_call, ["tools", END])
    graph.add_edge("tools", "chat")
    return graph


def react(*turns: Any, tools: Any = (look_up, pay), ids: bool = True, **options: Any) -> Agent:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangGraphDeprecatedSinceV10)
        return create_react_agent(says(*turns, ids=ids), list(tools), **options)


def last_three(state: Any) -> dict[str, Any]:
    happened(f"before the model: {len(state['messages'])}")
    return {"llm_input_messages": [HumanMessage("only the last"), *state["messages"][-3:]]}


def forget(state: Any) -> dict[str, Any]:
    return {"messages": [RemoveMessage(message.id) for message in state["messages"][:-4]]}


def approve(state: Any) -> dict[str, Any] | None:
    last = state["messages"][-1]
    if not getattr(last, "tool_calls", None):
        return None
    answer = interrupt([each["name"] for each in last.tool_calls])
    calls = [each for each in last.tool_calls if each["name"] in answer]
    return {"messages": [last.model_copy(update={"tool_calls": calls})]}


def prompt(state: Any) -> list[Any]:
    return [HumanMessage(f"{len(state['messages'])} messages, count {state.get('count')}"), *state["messages"]]


def case(name: str, graph: Any, *answers: Any, **options: Any) -> Case:
    return Case(
        f"prebuilt_{name}", "agents: prebuilt", graph, {**asks("go"), **options.pop("given", {})}, answers, **options
    )


TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]
VISITS = [call("visit", "a", place="rome"), call("visit", "b", place="oslo"), call("look_up", "c", word="x")]
VERDICT = [call("Verdict", "v", good=True, why="so")]
ASKS = [call("ask", "a", question="q"), call("ask", "b", question="r"), call("pay", "c", amount=1)]

CASES = [
    case("loop", loop(TWO, heard)),
    case("loop_without_ids", loop(TWO, TWO, heard, ids=False)),
    case("loop_with_commands", loop(VISITS, heard, tools=[visit, look_up]), given={"visitor": "Ada"}),
    case("loop_left_by_a_tool", loop([call("leave", "a")], heard, tools=[leave])),
    case(
        "loop_with_errors_told",
        loop([call("breaks", "a", word="x"), *TWO], heard, tools=[breaks, look_up, pay], handle_tool_errors=True),
    ),
    case("loop_with_errors", loop([call("breaks", "a", word="x")], tools=[breaks]), raises="x is broken"),
    case("loop_with_a_question", loop([ASKS[0], ASKS[2]], heard, tools=[ask, pay]), "yes"),
    case("fanned_out", fanned_out(TWO, [{**each, "id": f"{each['id']}2"} for each in TWO], heard)),
    case("fanned_out_with_questions", fanned_out(ASKS, heard), "yes", "no"),
    case("react", react(TWO, heard)),
    case("react_without_ids", react(TWO, heard, ids=False)),
    case("react_of_the_first_version", react(TWO, [{**TWO[1], "id": "c"}], heard, version="v1")),
    case("react_with_questions", react(ASKS, heard, tools=[ask, pay]), "yes", "no"),
    case("react_with_a_prompt", react(TWO, heard, prompt=prompt, state_schema=Counted), given={"count": 3}),
    case("react_before_the_model", react(TWO, heard, pre_model_hook=last_three)),
    case("react_that_forgets", react(TWO, TWO, heard, pre_model_hook=forget)),
    case("react_after_the_model", react(TWO, heard, post_model_hook=approve), ["pay"]),
    case("react_with_an_answer", react(TWO, heard, VERDICT, response_format=Verdict)),
]
