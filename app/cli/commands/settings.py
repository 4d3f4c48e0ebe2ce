"""`stellwerk settings`: what can be set, what is set here, and what it means."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from app.cli.console import examples, out, print_json, print_line, print_table, print_text, say
from app.cli.support.configured import read_settings
from app.errors import BadInput

if TYPE_CHECKING:
    from app.cli.support.settings_table import Setting

commands = typer.Typer()

COLUMNS = ("variable", "value", "default", "meaning")


@commands.command(
    epilog=examples(
        "stellwerk settings",
        "stellwerk settings --json | jq '.[] | select(.value != .default)'",
        "stellwerk settings --markdown --into app/README.md",
    )
)
def settings(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array; durations are in seconds.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables of the defaults, for the docs.")] = False,
    into: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put the Markdown between the two markers in this file.")
    ] = None,
) -> None:
    """Prints every setting: its variables, the value in force, its default and its meaning. Secrets are hidden.

    A duration is a number of seconds or ISO 8601, such as PT15M; a list has commas.
    """
    if as_json and as_markdown:
        raise BadInput("give --json or --markdown, not both")
    if into is not None and not as_markdown:
        raise BadInput("--into goes with --markdown")
    # Imported here: pydantic takes longer than everything else that `--help` needs.
    from app.cli.support import settings_table  # noqa: PLC0415

    if into is not None:
        settings_table.write_between_markers(into, settings_table.markdown())
        say(f"the table in {into} is up to date")
    elif as_markdown:
        print_line(settings_table.markdown())
    else:
        described = list(settings_table.describe_settings(read_settings()))
        if as_json:
            print_json([setting.json for setting in described])
        else:
            _print(described)


def _print(described: "list[Setting]") -> None:
    if not out.is_terminal:
        print_table(COLUMNS, [setting.row for setting in described])
        return
    for group, members in groupby(described, key=lambda setting: setting.group):
        print_text(Text(group, style="bold"))
        print_table(COLUMNS, map(_short_row, members))


def _short_row(setting: "Setting") -> tuple[str, str, str, str]:
    """Leaves out a default that is in force: a terminal has little room."""
    name, value, default, meaning = setting.row
    return name, value, "" if value == default else default, meaning
