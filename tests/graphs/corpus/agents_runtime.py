"""What an agent's tools and prompts see of their world: state, store, context, config, and agents inside of tools."""

import operator
from dataclasses import dataclass
from typing import Annotated, Any

from langchain.agents import AgentState
from langchain.agents.middleware import dynamic_prompt
from langchain.agents.middleware.types import PrivateStateAttr
from langchain.tools import InjectedState, InjectedStore, ToolRuntime
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph.message import push_message
from langgraph.managed.is_last_step import RemainingStepsManager
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says


@dataclass
class Customer:
    name: str
    tone: str = "friendly"


class Basket(AgentState[Any], total=False):
    basket: Annotated[list[str], operator.add]
    budget: int
    remaining: Annotated[int, PrivateStateAttr, RemainingStepsManager]


@tool
async def put(runtime: ToolRuntime[Any, Any], what: str) -> Command[Any]:
    """Puts something into the basket."""
    held = runtime.state.get("basket", [])
    happened(f"put {what} to {held} of {len(runtime.state['messages'])} messages")
    message = ToolMessage(f"{what} beside {held}", tool_call_id=runtime.tool_call_id)
    return Command(update={"basket": [what], "messages": [message]})


@tool
def count(state: Annotated[Any, InjectedState]) -> str:
    """Counts the basket."""
    happened(f"count {state['basket']}")
    return f"{len(state['basket'])} in the basket, {len(state['messages'])} messages"


@tool
def spend(amount: int, budget: Annotated[int, InjectedState("budget")]) -> str:
    """Spends from the budget."""
    happened(f"spend {amount} of {budget}")
    return f"{budget - amount} left"


@tool
async def remember(word: str, store: Annotated[BaseStore, InjectedStore]) -> str:
    """Remembers a word."""
    happened(f"remember {word}")
    await store.aput(("words",), word, {"word": word})
    return f"remembered {word}"


@tool
async def recall(runtime: ToolRuntime[Any, Any], word: str) -> str:
    """Recalls a word."""
    item = await runtime.store.aget(("words",), word) if runtime.store else None
    happened(f"recall {word}: {item is not None}")
    return f"recalled {item.value['word'] if item else 'nothing'}"


@tool
async def greet(runtime: ToolRuntime[Customer, Any]) -> str:
    """Greets the customer."""
    happened(f"greet {runtime.context.name}")
    return f"hello {runtime.context.name}, in a {runtime.context.tone} tone"


@tool
async def where(runtime: ToolRuntime[Any, Any]) -> str:
    """Says where it runs."""
    config = runtime.config
    happened("where")
    metadata = config.get("metadata", {})
    keys = sorted(key for key in config.get("configurable", {}) if not key.startswith("__"))
    names = ("langgraph_step", "langgraph_node", "langgraph_path", "langgraph_triggers", "lc_agent_name", "team")
    return f"{[metadata.get(name) for name in names]}, {keys}, {sorted(config.get('tags') or [])}"


@tool
async def announce(word: str) -> str:
    """Says something beside its result."""
    happened(f"announce {word}")
    push_message(AIMessage(f"by the way: {word}", id=f"aside-{word}"))
    return f"announced {word}"


@dynamic_prompt
def by_length(request: Any) -> str:
    return f"You have read {len(request.messages)} messages, the basket is {request.state.get('basket')}."


@dynamic_prompt
def by_steps(request: Any) -> str:
    return f"{request.state['remaining']} steps are left."


@dynamic_prompt
def by_customer(request: Any) -> str:
    return f"You talk with {request.runtime.context.name}."


@tool
async def confirm(what: str) -> str:
    """Asks a person, from inside of an inner agent."""
    happened(f"before {what}")
    answer = interrupt({"confirm": what})
    happened(f"{what}: {answer}")
    return f"{what} is {answer}"


inner = agent(
    says([call("look_up", "i1", word="in"), call("pay", "i2", amount=9)], heard, label="inner"), [look_up, pay]
)
asking = agent(
    says(
        [call("pay", "q0", amount=7)],
        lambda messages: [call("confirm", "q1", what=f"first of {messages[0].text}")],
        lambda messages: [call("confirm", "q2", what=f"second of {messages[0].text}")],
        heard,
        label="asking",
    ),
    [pay, confirm],
)


@tool
async def delegate(task: str) -> str:
    """Lets another agent do it."""
    result = await inner.ainvoke(asks(task))
    happened(f"delegated {task}")
    return f"{task}: {result['messages'][-1].text}"


@tool
async def delegate_to_asking(task: str) -> str:
    """Lets another agent do it, which asks."""
    result = await asking.ainvoke(asks(task))
    happened(f"delegated {task}")
    return f"{task}: {result['messages'][-1].text}"


def case(name: str, /, *turns: Any, tools: Any, **options: Any) -> Case:
    told = {key: options.pop(key) for key in ("answers", "context", "config", "raises", "input") if key in options}
    middleware = options.pop("middleware", ())
    graph = agent(says(*turns), tools, *middleware, **options)
    return Case(f"agent_{name}", "agents: runtime", graph, **{"input": asks("go"), **told})


PUT = [call("put", "a", what="apple"), call("put", "b", what="pear")]

CASES = [
    case("runtime_state", PUT, [call("put", "c", what="plum")], heard, tools=[put], state_schema=Basket),
    case(
        "injected_state", PUT, [call("count", "c"), call("count", "d")], heard, tools=[put, count], state_schema=Basket
    ),
    case(
        "injected_field",
        [call("spend", "a", amount=3), call("spend", "b", amount=4)],
        heard,
        tools=[spend],
        state_schema=Basket,
        input={**asks("go"), "budget": 10},
    ),
    case(
        "injected_store",
        [call("remember", "a", word="x"), call("remember", "b", word="y")],
        [call("recall", "c", word="x"), call("recall", "d", word="y"), call("recall", "e", word="z")],
        heard,
        tools=[remember, recall],
        store=InMemoryStore(),
    ),
    case("no_store", [call("recall", "a", word="x")], heard, tools=[recall]),
    case("context", [call("greet", "a")], heard, tools=[greet], context_schema=Customer, context={"name": "Ada"}),
    case("dynamic_prompt", PUT, heard, tools=[put], middleware=[by_length], state_schema=Basket),
    case(
        "prompt_of_the_context",
        heard,
        tools=[],
        middleware=[by_customer],
        context_schema=Customer,
        context={"name": "Ada"},
    ),
    case("system_prompt", TURN := [call("look_up", "a", word="x")], heard, tools=[look_up], system_prompt="Be brief."),
    case("where_it_runs", [call("where", "a")], [call("where", "b"), call("where", "c")], heard, tools=[where]),
    case(
        "config_of_the_session",
        [call("where", "a")],
        heard,
        tools=[where],
        name="guide",
        config={"tags": ["night"], "metadata": {"team": "red"}, "configurable": {"shop": "north"}},
    ),
    case("push_message", [call("announce", "a", word="x"), call("announce", "b", word="y")], heard, tools=[announce]),
    case("remaining_steps", TURN, heard, tools=[look_up], middleware=[by_steps], state_schema=Basket),
    case(
        "remaining_steps_of_few",
        TURN,
        heard,
        tools=[look_up],
        middleware=[by_steps],
        state_schema=Basket,
        config={"recursion_limit": 20},
    ),
    case(
        "recursion_limit",
        *(TURN for _ in range(9)),
        tools=[look_up],
        config={"recursion_limit": 5},
        raises="Recursion limit of 5",
    ),
    case("agent_in_a_tool", [call("delegate", "a", task="t")], heard, tools=[delegate]),
    case(
        "agents_in_two_tools",
        [call("delegate", "a", task="t"), call("delegate", "b", task="u")],
        heard,
        tools=[delegate],
    ),
    case(
        "agent_in_a_tool_that_asks",
        [call("delegate_to_asking", "a", task="t")],
        heard,
        tools=[delegate_to_asking],
        answers=["yes", "no"],
    ),
    case(
        "agents_in_two_tools_that_ask",
        [call("delegate_to_asking", "a", task="t"), call("delegate_to_asking", "b", task="u")],
        heard,
        tools=[delegate_to_asking],
        answers=["yes", "no", "maybe", "never"],
    ),
]
