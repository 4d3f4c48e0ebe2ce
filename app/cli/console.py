"""What every command writes with: results to standard output, everything else to standard error."""

import codecs
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import TextIOWrapper
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.terminal import clean, clean_lines, escaped

# What comes from agents and projects is never markup. A pipe gets no colours, whatever FORCE_COLOR says.
out = Console(force_terminal=sys.stdout.isatty(), highlight=False, markup=False, emoji=False)
err = Console(force_terminal=sys.stderr.isatty(), highlight=False, markup=False, emoji=False, stderr=True)

WHOLE = frozenset({"session", "variable"})
"""Columns that cut no word: half an id is none, and half a name neither."""


_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def say(message: str) -> None:
    """Tells the person something that is no result."""
    err.print(Text(clean_lines(message)), soft_wrap=True)


def print_text(text: Text | str) -> None:
    """One line, which the terminal may fold but nothing cuts."""
    shown = text if isinstance(text, Text) else Text(text)
    shown.plain = clean_lines(shown.plain)  # a sign for each, so styles stay where they are
    out.print(shown, soft_wrap=True)


def print_json(value: Any) -> None:
    print_json_text(orjson.dumps(value).decode())


def print_json_text(text: str) -> None:
    """Writes JSON: in UTF-8, and where output has another encoding with escapes, which every parser reads."""
    is_utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    print_line(text if is_utf8 else _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text))


def take_any_text() -> None:
    """Makes what the encoding of an output does not have an escape, not an error. Call it before the first output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def print_line(line: str) -> None:
    """Writes a line at once, for a program that reads along; on a terminal with control characters as JSON has them."""
    sys.stdout.write((escaped(line) if sys.stdout.isatty() else line) + "\n")
    sys.stdout.flush()


def print_content(content: bytes) -> None:
    """Writes a file's content to standard output, byte for byte unless a terminal shows it."""
    if sys.stdout.isatty():
        sys.stdout.write(clean_lines(content.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(content)
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; else a line for each row, with tabs, and nothing cut."""
    if not out.is_terminal:
        for row in rows:
            print_line("\t".join(clean(value) for value in row))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    lines = [[clean(value) for value in row] for row in rows]
    for number, column in enumerate(columns):
        words = [column, *(word for line in lines for word in line[number].split())]
        table.add_column(column, width=max(map(len, words)) if column in WHOLE else None, overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    out.print(table)


def local_time(ts: str | None) -> str:
    """An RFC 3339 time for people, in their zone."""
    return datetime.fromisoformat(ts).astimezone().strftime("%Y-%m-%d %H:%M:%S") if ts else ""


def examples(*lines: str) -> str:
    """An epilog; typer joins lines that no blank line divides."""
    return "\n\n".join(["Examples:", *lines])
