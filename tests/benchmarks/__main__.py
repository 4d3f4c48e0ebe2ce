"""`scripts/bench`: how fast this is, beside the machine's limits and beside what people would use instead."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from types import MappingProxyType
from typing import Annotated

import typer
from rich.console import Console

from tests.benchmarks import (
    appends,
    connections,
    feeds,
    histories,
    keys,
    products,
    readers,
    relays,
    reports,
    starts,
    steps,
    volume,
)
from tests.benchmarks.figure import Figure, Sample
from tests.benchmarks.house import House, house

Bench = Callable[[House], AsyncIterator[Figure]]
BENCHES: MappingProxyType[str, Bench] = MappingProxyType(
    {
        "appends": appends.bench,
        "readers": readers.bench,
        "relays": relays.bench,
        "connections": connections.bench,
        "histories": histories.bench,
        "feeds": feeds.bench,
        "keys": keys.bench,
        "volume": volume.bench,
        "steps": steps.bench,
        "reports": reports.bench,
        "products": products.bench,
        "starts": starts.bench,
    }
)

console = Console(highlight=False, stderr=True)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only this bench; may be given several times.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Ten million events: some minutes more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each figure, a line each.")] = False,
) -> None:
    """Measures this project beside the raw limits of the machine and beside its peers, in one run.

    Every figure is a ratio; medians over several runs, the two sides in turns. Exits with 1 when a goal is missed.
    Nothing else should run on the machine.
    """
    if unknown := set(only or []) - BENCHES.keys():
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    figures = asyncio.run(measured(only or list(BENCHES), full, as_json))
    if not as_json:
        report(figures)
    sys.exit(0 if all(figure.is_met for figure in figures) else 1)


async def measured(names: list[str], full: bool, as_json: bool) -> list[Figure]:
    figures = []
    for name in names:
        async with house(is_full=full) as built:
            with console.status(f"measuring {name} …"):
                async for figure in BENCHES[name](built):
                    figures.append(figure)
                    if as_json:
                        sys.stdout.write(json.dumps({"bench": name, **figure.as_dict()}, ensure_ascii=False) + "\n")
                        sys.stdout.flush()
                    else:
                        console.print(f"{name}: {figure.what}: {figure.ratio:.2f} × {figure.against}")
    return figures


def report(figures: list[Figure]) -> None:
    """Two lines for each; ± is the spread of the runs."""
    out = Console(highlight=False, soft_wrap=True)
    for figure in figures:
        sign = "[green]✓[/green]" if figure.is_met else "[red]✗[/red]"
        ours = f"{shown(figure.ours)} {figure.unit}"
        out.print(f"{sign} {figure.what}: [bold]{ours}, {figure.ratio:.2f} ×[/bold] {figure.against}")
        out.print(f"    [dim]theirs {shown(figure.theirs)}; goal {figure.goal} ×; {figure.meaning}[/dim]")


def shown(sample: Sample) -> str:
    value = sample.median
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + f" ±{sample.spread:.0%}"


if __name__ == "__main__":
    typer.run(main)
