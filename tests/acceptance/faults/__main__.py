"""`scripts/faults`: breaks a deployment for a while and says what held."""

import asyncio
import random
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.acceptance.faults.faults import FAULTS
from tests.acceptance.faults.run import Outcome, run

console = Console(highlight=False, soft_wrap=True)


def main(
    seconds: Annotated[float, typer.Option(help="How long things are broken.")] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed breaks the same things.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this fault; may be given several times.")] = None,
    logs: Annotated[
        Path | None, typer.Option(help="Where the programs' logs are kept; else only after a violation.")
    ] = None,
) -> None:
    """Runs sessions on real processes, breaks these in many ways, and checks that nothing was lost."""
    if unknown := set(only or []) - FAULTS.keys():
        raise typer.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    chosen = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {chosen}")
    outcome = asyncio.run(run(seconds, chosen, only or [], console.print))
    report(outcome)
    if logs or outcome.violations:
        keep_logs(outcome, logs or Path(mkdtemp(prefix="stellwerk-faults-")))
    sys.exit(1 if outcome.violations else 0)


def report(outcome: Outcome) -> None:
    table = Table("fault", "times", "recovery: median s", "worst s", title=f"seed {outcome.seed}")
    for recovery in outcome.recoveries:
        seconds = (f"{recovery.median_seconds:.1f}", f"{recovery.worst_seconds:.1f}")
        table.add_row(recovery.fault, str(recovery.count), *seconds)
    console.print(table)
    for verdict in outcome.verdicts:
        sign = "[red]✗[/red]" if verdict.violations else "[green]✓[/green]"
        console.print(f"{sign} {verdict.invariant} ({verdict.looked_at})")
        for violation in verdict.violations[:20]:
            console.print(f"    {violation}", markup=False)


def keep_logs(outcome: Outcome, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name, text in outcome.logs.items():
        (directory / name).write_text(text)
    console.print(f"what the programs wrote is in {directory}")


if __name__ == "__main__":
    typer.run(main)
