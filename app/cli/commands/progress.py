"""`stellwerk progress`: report_progress() for agents that are programs of their own."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import typer

from app.cli.client import Address, GatewayClient
from app.cli.console import examples, print_line
from app.errors import BadInput, NoCurrentStep

commands = typer.Typer()


@commands.command(
    epilog=examples(
        'stellwerk progress 0.4 "compiling"',
        'stellwerk progress 30 "files read" --total 120 --detail folder=src --detail slow=true',
    )
)
def progress(
    amount: Annotated[float, typer.Argument(metavar="PROGRESS", help="How much is done, out of --total.")],
    message: Annotated[str, typer.Argument(help="What is being done.")],
    total: Annotated[float, typer.Option(help="How much there is to do.")] = 1.0,
    unknown: Annotated[bool, typer.Option("--no-total", help="It is not known how much there is to do.")] = False,
    agent: Annotated[
        str | None, typer.Option(help="The step's own agent, which is understood; no other may be named.")
    ] = None,
    phase: Annotated[str | None, typer.Option(help="think, progress, decision or result.")] = None,
    detail: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable; a value that is JSON is taken as JSON.")
    ] = None,
    url: Annotated[str | None, typer.Option(envvar="STELLWERK_URL", help="The gateway's address.")] = None,
    session: Annotated[str | None, typer.Option(envvar="STELLWERK_SESSION", help="The session's id.")] = None,
    step_token: Annotated[str | None, typer.Option(envvar="STELLWERK_STEP_TOKEN", help="The step's token.")] = None,
) -> None:
    """Reports progress from within a step, whose environment says where to; prints the event's offset."""
    if not (url and session and step_token):
        raise NoCurrentStep(
            "this is for programs that a step starts: STELLWERK_URL, STELLWERK_SESSION and STELLWERK_STEP_TOKEN are"
            " not all set"
        )
    report = {
        "progress": amount,
        "message": message,
        "agent": agent,
        "phase": phase,
        "total": None if unknown else total,
        "details": _details(detail or []),
    }
    with GatewayClient(Address(url.rstrip("/"), step_token)) as gateway:
        path = f"/sessions/{session}/events"
        # The key lets it be sent again when an answer is lost, without a second event.
        appended = gateway.post(path, report, once=True)
    print_line(str(appended["offset"]))


def _details(pairs: list[str]) -> Mapping[str, Any]:
    details = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise BadInput(f"--detail {pair!r} is not KEY=VALUE")
        try:
            details[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            details[key] = value
    return details
