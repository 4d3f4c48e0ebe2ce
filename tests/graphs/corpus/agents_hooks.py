"""Custom middleware: state of its own, hooks before, after and around, and jumps."""

import operator
from typing import Annotated, Any

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelResponse,
    after_agent,
    after_model,
    before_agent,
    before_model,
    hook_config,
    wrap_model_call,
    wrap_tool_call,
)
from langchain.agents.middleware.types import OmitFromOutput, PrivateStateAttr
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.channels import EphemeralValue, UntrackedValue
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says


class Trace(AgentState[Any], total=False):
    trace: Annotated[list[str], operator.add]
    hidden: Annotated[int, PrivateStateAttr]
    inside: Annotated[list[str], operator.add, OmitFromOutput]
    passing: Annotated[str, EphemeralValue, PrivateStateAttr]
    untracked: Annotated[int, UntrackedValue, PrivateStateAttr]


class Tracing(AgentMiddleware[Trace, Any, Any]):
    """Counts in all ways that a state can keep a number, and says what it read."""

    state_schema = Trace

    def __init__(self, label: str = "trace") -> None:
        super().__init__()
        self.label = label

    @property
    def name(self) -> str:
        return self.label

    def _seen(self, hook: str, state: Any) -> dict[str, Any]:
        numbers = [state.get("hidden"), state.get("passing"), state.get("untracked"), len(state["messages"])]
        happened(f"{self.label} {hook}: {numbers}")
        return {
            "trace": [f"{self.label} {hook}: {numbers}"],
            "inside": [hook],
            "hidden": state.get("hidden", 0) + 1,
            "untracked": state.get("untracked", 0) + 1,
        }

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return self._seen("before_agent", state)

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any]:
        return self._seen("before_model", state) | {"passing": "only to the model"}

    async def aafter_model(self, state: Any, runtime: Any) -> dict[str, Any]:
        return self._seen("after_model", state)

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return self._seen("after_agent", state)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        happened(f"{self.label} around the model: {request.state.get('passing')}, {request.state.get('untracked')}")
        return await handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        state = request.state
        happened(
            f"{self.label} around a tool: {state.get('hidden')}, {state.get('untracked')}, {len(state['messages'])}"
        )
        return await handler(request)


@before_model(can_jump_to=["end"])
def enough(state: Any, runtime: Any) -> dict[str, Any] | None:
    """Ends the conversation after three messages."""
    if len(state["messages"]) < 3:
        return None
    return {"messages": [AIMessage("that is enough")], "jump_to": "end"}


@after_model(can_jump_to=["model"])
async def say_it_again(state: Any, runtime: Any) -> dict[str, Any] | None:
    if happened("after the model") > 1:
        return None
    return {"messages": [HumanMessage("say it again")], "jump_to": "model"}


@after_model(can_jump_to=["tools"])
def straight_to_the_tools(state: Any, runtime: Any) -> dict[str, Any] | None:
    return {"jump_to": "tools"} if state["messages"][-1].tool_calls else None


@before_agent(can_jump_to=["end"])
async def not_today(state: Any, runtime: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("not today")], "jump_to": "end"}


@after_agent
def sign(state: Any, runtime: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(f"signed after {len(state['messages'])} messages")]}


@before_model
def begin_anew(state: Any, runtime: Any) -> dict[str, Any] | None:
    first, *rest = state["messages"]
    if len(rest) < 3 or first.text == "begin anew":
        return None
    return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), HumanMessage("begin anew"), *rest]}


@before_model
def ask_before(state: Any, runtime: Any) -> dict[str, Any]:
    happened("before the question")
    return {"messages": [HumanMessage(f"they say: {interrupt({'messages': len(state['messages'])})}")]}


@after_agent
async def ask_after(state: Any, runtime: Any) -> dict[str, Any]:
    first, second = interrupt("good?"), interrupt("really?")
    return {"messages": [AIMessage(f"{first} and {second}")]}


@wrap_model_call
async def other_words(request: Any, handler: Any) -> Any:
    extra = SystemMessage(f"{len(request.messages)} messages, tools {[each.name for each in request.tools]}")
    return await handler(request.override(system_message=extra, tools=request.tools[:1]))


@wrap_model_call(state_schema=Trace)
async def noted(request: Any, handler: Any) -> ExtendedModelResponse[Any]:
    response = await handler(request)
    return ExtendedModelResponse(response, Command(update={"trace": [f"noted {len(request.messages)}"]}))


@wrap_model_call
async def twice(request: Any, handler: Any) -> ModelResponse[Any]:
    """Two calls of the model for one, of which the first is kept and the second is added."""
    first, second = await handler(request), await handler(request)
    extra = second.result[0].model_copy(
        update={"id": None, "content": "once more", "tool_calls": [], "response_metadata": {}}
    )
    return ModelResponse(result=[extra, *first.result])


@wrap_tool_call
async def from_the_cache(request: Any, handler: Any) -> Any:
    if request.tool_call["name"] != "look_up":
        return await handler(request)
    happened("cached")
    return ToolMessage("from the cache", tool_call_id=request.tool_call["id"], name="look_up")


@wrap_tool_call(state_schema=Trace)
async def as_command(request: Any, handler: Any) -> Any:
    message = await handler(request)
    return Command(update={"messages": [message], "trace": [f"{message.text} of {len(request.state['messages'])}"]})


@wrap_tool_call
async def doubled(request: Any, handler: Any) -> Any:
    arguments = {key: value * 2 for key, value in request.tool_call["args"].items()}
    return await handler(request.override(tool_call={**request.tool_call, "args": arguments}))


class WithTools(AgentMiddleware[Any, Any, Any]):
    """Brings a tool, and ends when it was called."""

    def __init__(self) -> None:
        super().__init__()

        @tool
        def shout(word: str) -> str:
            """Shouts."""
            happened(f"shout {word}")
            return word.upper()

        self.tools = [shout]

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return {"jump_to": "end"} if getattr(state["messages"][-1], "name", None) == "shout" else None


class Resource:
    """As a process or a connection: no other process can have it. LangChain's shell is one."""


class Holds(AgentState[Any], total=False):
    resource: Annotated[Resource, UntrackedValue, PrivateStateAttr]


class Holding(AgentMiddleware[Holds, Any, Any]):
    """Opens a resource for as long as the agent runs."""

    state_schema = Holds

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        happened("open")
        return {"resource": Resource()}

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        happened(f"use {type(request.state['resource']).__name__}")
        return await handler(request)


TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]


def case(name: str, turns: Any, *middleware: Any, **options: Any) -> Case:
    return Case(
        f"agent_hook_{name}", "agents: hooks", agent(says(*turns), [look_up, pay], *middleware), asks("go"), **options
    )


CASES = [
    case("all", [TWO, heard], Tracing()),
    case("all_of_two", [TWO, heard], Tracing("outer"), Tracing("inner")),
    case("all_with_a_question", [TWO, heard], Tracing(), ask_before, answers=["one", "two"]),
    case("jump_to_end", [TWO, heard], enough),
    case("jump_to_end_with_an_end", [TWO, heard], enough, sign),
    case("jump_to_model", ["once", heard], say_it_again),
    case("jump_to_tools", [TWO[:1], heard], straight_to_the_tools),
    case("jump_before_it_begins", [heard], not_today, sign),
    case("last_word", [TWO, heard], sign),
    case("messages_removed", [TWO, heard], begin_anew),
    case("question_before_the_model", [TWO, heard], ask_before, answers=["one", "two"]),
    case("questions_after_the_agent", [TWO, heard], ask_after, answers=["yes", "no"]),
    case("other_request", [TWO[:1], heard], other_words),
    case("state_of_a_model_call", [TWO, heard], noted),
    case("two_calls_of_the_model", [TWO, heard], twice),
    case("tool_from_the_cache", [TWO, heard], from_the_cache),
    case("tool_as_command", [TWO, heard], as_command, Tracing()),
    case("tool_with_other_arguments", [TWO, heard], doubled),
    case(
        "tools_of_middleware", [[call("shout", "a", word="x"), *TWO[1:]], [call("shout", "c", word="y")]], WithTools()
    ),
    case("resource", [TWO, heard], Holding(), refuses="resource"),
]
