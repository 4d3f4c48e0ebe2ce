"""Nothing that comes from a project or an agent moves a terminal's cursor or hides what it is."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from rich.text import Text

from app.cli import console
from app.cli.support.describe import describe
from app.config import Settings
from app.logging import configure_logging

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp\u2066 \x08\r [bold]{0} \udcff \U000e0041"
MOVING = set("\x1b\x07\x9b\x08\r\u202e\u2066\udcff\U000e0041")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def on_terminal() -> Iterator[Terminal]:
    """What the block writes, by our functions or by print, goes there."""
    shown = Terminal()
    plain = Console(file=shown, markup=False, emoji=False, highlight=False, width=500, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", shown)
        patch.setattr(console, "out", plain)
        patch.setattr(console, "err", plain)
        yield shown


def event(**more: object) -> dict[str, object]:
    return {"ts": "2026-11-25T10:00:00.000000Z", "t": "agent_event", "phase": "progress", "details": {}, **more}


@pytest.mark.parametrize(("agent", "msg"), [(HOSTILE, "x"), ("x", HOSTILE)], ids=["agent", "msg"])
def test_an_event(agent: str, msg: str) -> None:
    with on_terminal() as terminal:
        console.print_text(describe(event(agent=agent, msg=msg, pct=None), "1"))
    assert not MOVING & set(terminal.getvalue())
    assert "[bold]{0}" in terminal.getvalue()


def test_errors_tables_results_and_patches() -> None:
    with on_terminal() as terminal:
        console.say(f"stellwerk: {HOSTILE}\nsecond line")
        console.print_text(Text(HOSTILE, style="red"))
        console.print_table(["name"], [[HOSTILE]])
        console.print_content(HOSTILE.encode(errors="surrogateescape") + b"\xff\n+tab\there\n")
    assert not MOVING & set(terminal.getvalue())
    assert "\nsecond line" in terminal.getvalue() and "\n+tab\there\n" in terminal.getvalue()


def test_json_keeps_its_meaning() -> None:
    value = {"name": HOSTILE.replace("\udcff", "").replace("\U000e0041", "")}
    with on_terminal() as terminal:
        console.print_json(value)
    assert not MOVING & set(terminal.getvalue())
    assert json.loads(terminal.getvalue()) == value


def test_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    configure_logging(Settings(log_format="text"))
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        logging.getLogger("x").error("the file %s", HOSTILE, exc_info=error)
    assert "the file" in shown.getvalue() and "ValueError" in shown.getvalue()
    assert not (MOVING - {"\x1b"}) & set(shown.getvalue()) and "\x1b]" not in shown.getvalue()
