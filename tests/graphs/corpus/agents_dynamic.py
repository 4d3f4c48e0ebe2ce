"""Agents that change while they run, that have a saver or a store of their own, and that ask amid limits."""

from dataclasses import dataclass
from typing import Any

from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
    wrap_model_call,
)
from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send

from tests.graphs.cases import Case
from tests.graphs.corpus.agents_memory import goes_on
from tests.graphs.corpus.agents_nested import in_rounds, one_after_the_other, working
from tests.graphs.corpus.agents_tools import ask
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says

TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]
PAYS = [[call("pay", f"{turn}a", amount=turn), call("pay", f"{turn}b", amount=10 + turn)] for turn in range(4)]
APPROVE = {"type": "approve"}
RESPOND = {"type": "respond", "message": "no"}


@dataclass
class Tenant:
    name: str


@tool
async def tenant(runtime: ToolRuntime[Tenant, Any]) -> str:
    """Says for whom it works."""
    happened(f"tenant {runtime.context.name}")
    return f"{runtime.context.name}, {len(runtime.tools)} tools, call {runtime.tool_call_id}"


@tool
async def keep(runtime: ToolRuntime[Any, Any], word: str) -> str:
    """Keeps a word, and counts what is kept."""
    assert runtime.store is not None
    await runtime.store.aput(("kept",), word, {"word": word})
    kept = await runtime.store.asearch(("kept",))
    happened(f"keep {word}: {len(kept)}")
    return f"{sorted(item.key for item in kept)}"


@tool
async def leave(runtime: ToolRuntime[Any, Any], where: str) -> Command[Any]:
    """Goes on in another node of the outer graph."""
    happened(f"leave for {where}")
    message = ToolMessage(f"left for {where}", tool_call_id=runtime.tool_call_id)
    return Command(goto=where, graph=Command.PARENT, update={"messages": [*runtime.state["messages"], message]})


@tool
async def spread(runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Goes on in another node of the outer graph, twice at a time."""
    happened("spread")
    return Command(goto=[Send("part", asks(f"part {number}")) for number in range(2)], graph=Command.PARENT)


@wrap_model_call
async def by_length(request: Any, handler: Any) -> Any:
    """Another model for longer conversations."""
    return await handler(request.override(model=LONGER) if len(request.messages) > 2 else request)


class Late(AgentMiddleware[Any, Any, Any]):
    """Adds a tool that the agent did not have when it was built."""

    def __init__(self) -> None:
        super().__init__()

        @tool
        async def late(word: str) -> str:
            """Comes late."""
            happened(f"late {word}")
            return f"late {word}"

        self._late = late

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(tools=[*request.tools, self._late]))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        is_late = request.tool_call["name"] == "late"
        return await handler(request.override(tool=self._late) if is_late else request)


def per_call() -> HumanInTheLoopMiddleware[Any, Any, Any]:
    return HumanInTheLoopMiddleware(interrupt_on={"pay": True}, interrupt_mode="per_call")


def batched() -> HumanInTheLoopMiddleware[Any, Any, Any]:
    return HumanInTheLoopMiddleware(interrupt_on={"pay": True})


def outer(inner: Any, **options: Any) -> StateGraph[Any]:
    """An agent whose tools may go on in other nodes."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState, **options)
    graph.add_node("inner", inner, destinations=("other", "part", END))
    graph.add_node("other", working("other"))
    graph.add_node("part", working("part"))
    graph.add_edge(START, "inner")
    return graph


def decided(*decisions: Any) -> Any:
    return {"decisions": list(decisions)}


LONGER = says(heard, label="longer")
ASKS = [call("ask", "q", question="q"), call("pay", "p", amount=1)]


def case(name: str, graph: Any, *answers: Any, **options: Any) -> Case:
    return Case(f"agent_dynamic_{name}", "agents: dynamic", graph, asks("go"), answers, **options)


def paying(*middleware: Any) -> Any:
    return agent(says(*PAYS, heard), [look_up, pay], *middleware)


def summary(messages: int) -> Any:
    short = says("so far: much", label="summary")
    return SummarizationMiddleware(short, trigger=("messages", messages), keep=("messages", 2))


CASES = [
    case("model", agent(says(TWO), [look_up, pay], by_length)),
    case("tools", agent(says([call("late", "a", word="x"), *TWO[1:]], heard), [pay], Late())),
    case("own_saver", agent(says(TWO, heard), [look_up, pay], checkpointer=InMemorySaver())),
    case("own_saver_and_questions", agent(says(ASKS, heard), [ask, pay], checkpointer=InMemorySaver()), "yes"),
    case("inner_saver", one_after_the_other(working("one", checkpointer=InMemorySaver()))),
    case(
        "inner_saver_in_rounds",
        in_rounds(working("one", batched(), checkpointer=InMemorySaver())),
        *[decided(APPROVE)] * 3,
    ),
    case(
        "own_store",
        agent(says([call("keep", "a", word="x")], [call("keep", "b", word="y")], heard), [keep], store=InMemoryStore()),
    ),
    case(
        "context_of_the_outer_graph",
        outer(
            agent(says([call("tenant", "a"), call("tenant", "b")], heard), [tenant], context_schema=Tenant),
            context_schema=Tenant,
        ),
        context={"name": "Ada"},
    ),
    case("tool_that_leaves", outer(agent(says([call("leave", "a", where="other")]), [leave, pay]))),
    case(
        "tool_that_leaves_after_a_question",
        outer(agent(says(ASKS, [call("leave", "a", where="other")]), [ask, leave, pay])),
        "yes",
    ),
    case("tool_that_spreads", outer(agent(says([call("spread", "a")]), [spread]))),
    case(
        "limit_of_models_and_questions_of_calls",
        paying(ModelCallLimitMiddleware(run_limit=2), per_call()),
        *[APPROVE] * 8,
    ),
    case(
        "limit_of_tools_and_questions_of_calls",
        paying(ToolCallLimitMiddleware(run_limit=3), per_call()),
        *[APPROVE] * 8,
    ),
    case(
        "limit_of_a_thread_and_questions_of_calls",
        paying(ToolCallLimitMiddleware(thread_limit=3), per_call()),
        *[APPROVE] * 3,
    ),
    case(
        "limits_beside_a_tool_that_asks",
        agent(
            says(ASKS, *PAYS, heard),
            [ask, pay],
            ModelCallLimitMiddleware(run_limit=2),
            ToolCallLimitMiddleware(run_limit=3),
        ),
        "yes",
    ),
    case(
        "summaries_and_questions",
        agent(goes_on(4), [look_up, pay], summary(5), batched()),
        *[decided(each) for each in (APPROVE, {"type": "reject"}, RESPOND, APPROVE)],
    ),
    case(
        "retries_and_questions",
        paying(per_call(), ToolRetryMiddleware(initial_delay=0.0, jitter=False)),
        *[APPROVE, RESPOND] * 4,
    ),
    case(
        "everything_at_once",
        paying(
            TodoListMiddleware(),
            summary(7),
            ModelCallLimitMiddleware(thread_limit=4),
            ToolCallLimitMiddleware(thread_limit=6),
            batched(),
        ),
        *[decided(APPROVE, {"type": "edit", "edited_action": {"name": "look_up", "args": {"word": "w"}}})] * 4,
    ),
]
