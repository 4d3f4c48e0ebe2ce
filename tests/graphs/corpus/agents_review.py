"""LangChain's human-in-the-loop middleware: what a person approves, edits, rejects and answers is what runs."""

from typing import Any

from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolCallLimitMiddleware

from tests.graphs.cases import Case
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says

PAY = [call("pay", "a", amount=100)]
TWO = [call("pay", "a", amount=100), call("pay", "b", amount=200)]
MIXED = [call("look_up", "a", word="x"), call("pay", "b", amount=100), call("look_up", "c", word="y")]
APPROVE = {"type": "approve"}
REJECT = {"type": "reject", "message": "too dear"}
RESPOND = {"type": "respond", "message": "it is paid already"}


def edit(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "edit", "edited_action": {"name": name, "args": arguments}}


def decided(*decisions: dict[str, Any]) -> dict[str, Any]:
    return {"decisions": list(decisions)}


def review(**options: Any) -> HumanInTheLoopMiddleware[Any, Any, Any]:
    return HumanInTheLoopMiddleware(**{"interrupt_on": {"pay": True}, **options})


def described(call_: Any, state: Any, _: Any) -> str:
    return f"after {len(state['messages'])} messages: {call_['name']} {call_['args']}"


def dear(request: Any) -> bool:
    return int(request.tool_call["args"]["amount"]) > 150 and len(request.state["messages"]) > 1


def case(name: str, *turns: Any, answers: Any, middleware: Any = (), ids: bool = True, **options: Any) -> Case:
    graph = agent(says(*turns, ids=ids), [look_up, pay], *(middleware or [review()]))
    return Case(f"agent_review_{name}", "agents: review", graph, asks("pay"), answers=answers, **options)


ONLY_SOME = {"pay": {"allowed_decisions": ["approve", "reject"]}, "look_up": False}
PER_CALL = review(interrupt_mode="per_call")

CASES = [
    case("approved", PAY, heard, answers=[decided(APPROVE)]),
    case("approved_without_ids", PAY, heard, answers=[decided(APPROVE)], ids=False),
    case("edited", PAY, heard, answers=[decided(edit("pay", amount=1))]),
    case("edited_without_ids", PAY, heard, answers=[decided(edit("pay", amount=1))], ids=False),
    case("edited_to_another_tool", PAY, heard, answers=[decided(edit("look_up", word="instead"))]),
    case(
        "edited_without_notice",
        PAY,
        heard,
        answers=[decided(edit("pay", amount=1))],
        middleware=[review(edit_notice=None)],
    ),
    case("rejected", PAY, heard, answers=[decided(REJECT)]),
    case("rejected_without_a_word", PAY, heard, answers=[decided({"type": "reject"})]),
    case("responded", PAY, heard, answers=[decided(RESPOND)]),
    case("two_at_a_time", TWO, heard, answers=[decided(APPROVE, edit("pay", amount=2))]),
    case("one_of_two_rejected", TWO, heard, answers=[decided(REJECT, APPROVE)]),
    case("one_of_two_responded", TWO, heard, answers=[decided(edit("pay", amount=1), RESPOND)]),
    case("beside_free_tools", MIXED, heard, answers=[decided(edit("pay", amount=1))]),
    case("beside_free_tools_rejected", MIXED, heard, answers=[decided(REJECT)]),
    case(
        "two_turns",
        PAY,
        [call("pay", "c", amount=300)],
        heard,
        answers=[decided(edit("pay", amount=1)), decided(APPROVE)],
    ),
    case(
        "edit_then_a_free_turn", PAY, [call("look_up", "c", word="x")], heard, answers=[decided(edit("pay", amount=1))]
    ),
    case(
        "rejected_and_tried_again",
        PAY,
        [call("pay", "c", amount=10)],
        heard,
        answers=[decided(REJECT), decided(APPROVE)],
    ),
    case("nothing_to_review", [call("look_up", "a", word="x")], heard, answers=[]),
    case("only_some_decisions", PAY, heard, answers=[decided(REJECT)], middleware=[review(interrupt_on=ONLY_SOME)]),
    case(
        "decision_that_is_not_allowed",
        PAY,
        heard,
        answers=[decided(edit("pay", amount=1))],
        middleware=[review(interrupt_on=ONLY_SOME)],
        raises="is not allowed for tool 'pay'",
    ),
    case("too_few_decisions", TWO, heard, answers=[decided(APPROVE)], raises="Number of human decisions (1)"),
    case(
        "edited_to_an_unknown_tool",
        PAY,
        heard,
        answers=[decided(edit("steal", amount=1))],
        raises="which is not an available tool",
    ),
    case(
        "with_a_description",
        PAY,
        heard,
        answers=[decided(APPROVE)],
        middleware=[review(interrupt_on={"pay": {"allowed_decisions": ["approve"], "description": described}})],
    ),
    case(
        "only_what_is_dear",
        TWO,
        heard,
        answers=[decided(edit("pay", amount=2))],
        middleware=[review(interrupt_on={"pay": {"allowed_decisions": ["edit"], "when": dear}})],
    ),
    case(
        "with_a_limit",
        TWO,
        heard,
        answers=[decided(edit("pay", amount=2), REJECT)],
        middleware=[review(), ToolCallLimitMiddleware(run_limit=1)],
    ),
    case("per_call", PAY, heard, answers=[APPROVE], middleware=[PER_CALL]),
    case("per_call_edited", PAY, heard, answers=[edit("pay", amount=1)], middleware=[PER_CALL]),
    case("per_call_rejected", PAY, heard, answers=[REJECT], middleware=[PER_CALL]),
    case("per_call_two_at_a_time", TWO, heard, answers=[edit("pay", amount=1), RESPOND], middleware=[PER_CALL]),
    case("per_call_beside_free_tools", MIXED, heard, answers=[edit("pay", amount=1)], middleware=[PER_CALL]),
    case(
        "per_call_two_turns",
        TWO,
        [call("pay", "c", amount=3)],
        heard,
        answers=[APPROVE, REJECT, APPROVE],
        middleware=[PER_CALL],
    ),
]
