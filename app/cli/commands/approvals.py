"""`stellwerk approvals` and `stellwerk answer`: what waits for a person, and the answer."""

import sys
from enum import StrEnum
from typing import Annotated

import orjson
import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, local_time, print_json, print_line, print_table, say
from app.cli.support.lookup import Session, find_session
from app.cli.support.request import parse_json
from app.errors import BadInput, GatewayRefused, NotWaiting
from app.terminal import clean

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
            ("session", "step", "id", "agent", "asked", "question", "wants"),
            [
                (
                    a["session_id"],
                    a["step"],
                    a["id"],
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
        "stellwerk answer 019b5a3e 4 --question 17 --verdict approved --comment 'looks right'",
        """stellwerk answer 019b5a3e 4 --question 17 --answer '{"budget": 100}'""",
    )
)
@with_gateway
def answer(
    gateway: GatewayClient,
    session: Session,
    step: Annotated[int, typer.Argument(min=1, help="The step that asks.")],
    question: Annotated[
        str | None,
        typer.Option(help="The question's id, as `approvals` and `tail` show it; left out, a terminal shows and asks."),
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Yes or no.")] = None,
    value: Annotated[str | None, typer.Option("--answer", help="What the step gets, as JSON.")] = None,
    comment: Annotated[str | None, typer.Option(help="Why; it is kept in the log.")] = None,
) -> None:
    """Answers a step's question; the step goes on with it. An answer that is not what it asks for changes nothing.

    The answer is to one question: if the step asks something else by now, it is refused.
    """
    if verdict is None and value is None:
        raise BadInput("give --verdict, --answer or both")
    session_id = find_session(gateway, session)
    body = {
        "verdict": verdict,
        "answer": None if value is None else parse_json(value, option="--answer"),
        "comment": comment,
        "question": question or _shown_and_meant(gateway, session_id, step),
    }
    try:
        appended = gateway.post(f"/sessions/{session_id}/approvals/{step}", body, once=True)
    except GatewayRefused as refused:
        match refused.problem:
            case {"open_question": {"id": asked, "question": text}}:
                say(f"it asks now, as {asked}: {_text(text)}")
            case {"answer_schema": wanted}:
                say(f"allowed is what fits {_text(wanted)}; give it with --answer, as JSON")
        raise
    print_line(f"answered, at offset {appended['offset']}")


def _shown_and_meant(gateway: GatewayClient, session_id: str, step: int) -> str:
    """The id of the question that waits, once a person has seen it and said that the answer is to it."""
    waiting = gateway.get("/approvals", session_id=session_id)["approvals"]
    asked = next((approval for approval in waiting if approval["step"] == step), None)
    if asked is None:
        raise NotWaiting(f"step {step} does not wait for an answer")
    say(f"step {step} ({clean(asked['agent'])}) asks, as {asked['id']}: {clean(_text(asked['question']))}")
    if not sys.stdin.isatty():
        raise BadInput(f"which question is answered? If it is this one, add --question {asked['id']}")
    if not typer.confirm("Is your answer to this question?", err=True):
        raise typer.Exit(1)
    return str(asked["id"])


def _text(question: object) -> str:
    return question if isinstance(question, str) else orjson.dumps(question).decode()
