"""`scripts/scale`: many readers and sessions, and what they cost."""

import asyncio
from typing import Annotated

import typer

from tests.acceptance.faults.scale import FULL, Size
from tests.acceptance.faults.scenes import SCENES


def main(
    full: Annotated[
        bool, typer.Option("--full", help="2,000 clients, a million events, 10,000 sessions: takes minutes.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this scene; may be given several times.")] = None,
) -> None:
    """Slow and many readers, a reconnect storm, a big history, a backlog."""
    if unknown := set(only or []) - SCENES.keys():
        raise typer.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(SCENES)}")
    for name in only or SCENES:
        typer.echo(name.replace("_", " "))
        for line in asyncio.run(SCENES[name](FULL if full else Size())):
            typer.echo(f"  {line}")


if __name__ == "__main__":
    typer.run(main)
