"""langgraph-swarm: agents that hand the conversation to each other."""

from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langgraph.graph import StateGraph
from langgraph_swarm import SwarmState, add_active_agent_router, create_handoff_tool, create_swarm

from tests.graphs.cases import Case
from tests.graphs.corpus.agents_tools import ask
from tests.graphs.scripted import Agent, agent, asks, call, heard, look_up, pay, says

to = {label: create_handoff_tool(agent_name=label) for label in ("alice", "bob", "carol")}
TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]


class Mood(SwarmState, total=False):
    mood: str


def over(label: str, number: int = 0) -> Any:
    return [call(f"transfer_to_{label}", f"to-{label}-{number}")]


def member(label: str, *turns: Any, knows: Any = ("alice", "bob"), middleware: Any = (), ids: bool = True) -> Agent:
    others = [to[name] for name in knows if name != label]
    return agent(says(*turns, label=label, ids=ids), [look_up, pay, ask, *others], *middleware, name=label)


def three(*turns: Any) -> list[Agent]:
    return [member(label, *its_turns, knows=to) for label, its_turns in zip(to, turns, strict=True)]


def case(name: str, *agents: Agent, first: str = "alice", given: Any = None, **options: Any) -> Case:
    told = {key: options.pop(key) for key in ("answers", "raises") if key in options}
    graph = create_swarm(list(agents), default_active_agent=first, **options)
    return Case(f"swarm_{name}", "agents: swarm", graph, {**asks("hello"), **(given or {})}, **told)


def routed() -> StateGraph[Any]:
    """With a router of one's own before and after."""
    builder: StateGraph[Any] = StateGraph(Mood)
    builder.add_node("alice", member("alice", TWO, over("bob")), destinations=("bob",))
    builder.add_node("bob", member("bob", TWO, heard), destinations=("alice",))
    builder.add_node("end", lambda state: {"mood": f"{state['active_agent']} is done after {len(state['messages'])}"})
    builder.add_edge("bob", "end")
    return add_active_agent_router(builder, route_to=["alice", "bob"], default_active_agent="alice")


reviewed = HumanInTheLoopMiddleware[Any, Any, Any](interrupt_on={"pay": True})
EDITED = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 1}}}]}
BOB_ASKS = [[call("ask", "q", question="q"), call("pay", "p", amount=3)], [call("ask", "r", question="r")]]

CASES = [
    case("of_two", member("alice", over("bob")), member("bob", heard)),
    case("of_two_without_ids", member("alice", TWO, over("bob"), ids=False), member("bob", TWO, heard, ids=False)),
    case(
        "of_two_with_tools",
        member("alice", TWO, over("bob")),
        member("bob", [{**each, "id": f"{each['id']}2"} for each in TWO], heard),
    ),
    case("there_and_back", member("alice", over("bob"), heard), member("bob", TWO, over("alice"))),
    case("of_three", *three([over("bob")], [over("carol")], [TWO, heard])),
    case("of_three_and_back", *three([over("bob"), over("carol"), heard], [over("alice", 1)], [over("alice", 2)])),
    case(
        "that_goes_on_with_bob", member("alice", over("bob")), member("bob", TWO, heard), given={"active_agent": "bob"}
    ),
    case("that_begins_with_bob", member("alice", over("bob")), member("bob", TWO, heard), first="bob"),
    case(
        "with_questions",
        member("alice", over("bob"), heard),
        member("bob", *BOB_ASKS, over("alice")),
        answers=["yes", "no"],
    ),
    case(
        "with_a_review",
        member("alice", TWO, over("bob"), middleware=[reviewed]),
        member("bob", heard),
        answers=[EDITED],
    ),
    case(
        "with_state_of_its_own",
        member("alice", TWO, over("bob")),
        member("bob", heard),
        state_schema=Mood,
        given={"mood": "good"},
    ),
    Case("swarm_with_a_router", "agents: swarm", routed(), asks("hello")),
]
