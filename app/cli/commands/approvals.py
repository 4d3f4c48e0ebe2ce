"""`stellwerk approvals` and `stellwerk answer`: what waits for a person, and the answer."""

from enum import StrEnum
from typing import Annotated

import orjson
import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, local_time, print_json, print_line, print_table, say
from app.cli.support.lookup import Session, find_session
from app.cli.support.request import parse_json
from app.errors import BadInput, GatewayRefused

commands = typer.Typer()


class Verdict(StrEnum):
    """What a person says of a question that wants yes or no."""

    APPROVED = "approved"
    REJECTED = "rejected"


@commands.command(epilog=examples("stellwerk approvals"))
@with_gateway
def approvals(
    gateway: GatewayClient,
    session: Annotated[str | None, typer.Option(help="Only this session's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Lists the questions that wait for a person, longest first."""
    session_id = find_session(gateway, session) if session else None
    waiting = gateway.get("/approvals", session_id=session_id)["approvals"]
    if as_json:
        for approval in waiting:
            print_json(approval)
    else:
        print_table(
            ("session", "step", "agent", "asked", "question", "wants"),
            [
                (
                    a["session_id"],
                    a["step"],
                    a["agent"],
                    local_time(a["requested_at"]),
                    _text(a["question"]),
                    "anything" if a.get("answer_schema") is None else _text(a["answer_schema"]),
                )
                for a in waiting
            ],
        )


@commands.command(
    epilog=examples(
        "stellwerk answer 019b5a3e 4 --verdict approved --comment 'looks right'",
        """stellwerk answer 019b5a3e 4 --answer '{"budget": 100}'""",
    )
)
@with_gateway
def answer(
    gateway: GatewayClient,
    session: Session,
    step: Annotated[int, typer.Argument(min=1, help="The step that asks.")],
    verdict: Annotated[Verdict | None, typer.Option(help="Yes or no.")] = None,
    value: Annotated[str | None, typer.Option("--answer", help="What the step gets, as JSON.")] = None,
    comment: Annotated[str | None, typer.Option(help="Why; it is kept in the log.")] = None,
) -> None:
    """Answers a step's question; the step goes on with it. An answer that is not what it asks for changes nothing."""
    if verdict is None and value is None:
        raise BadInput("give --verdict, --answer or both")
    body = {
        "verdict": verdict,
        "answer": None if value is None else parse_json(value, option="--answer"),
        "comment": comment,
    }
    try:
        appended = gateway.post(f"/sessions/{find_session(gateway, session)}/approvals/{step}", body)
    except GatewayRefused as refused:
        if wanted := refused.problem.get("answer_schema"):
            say(f"allowed is what fits {_text(wanted)}; give it with --answer, as JSON")
        raise
    print_line(f"answered, at offset {appended['offset']}")


def _text(question: object) -> str:
    return question if isinstance(question, str) else orjson.dumps(question).decode()
