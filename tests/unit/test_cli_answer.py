"""`stellwerk answer` without a question's id: a person on a terminal is shown what waits, and says that it is meant."""

import io
import sys
from typing import Any, cast

import pytest
import typer

from app.cli.client import GatewayClient
from app.cli.commands.approvals import _shown_and_meant
from app.errors import BadInput, NotWaiting

ASKED = [
    {"step": 3, "id": "9", "agent": "a", "question": "another step's"},
    {"step": 4, "id": "2.17", "agent": "b\x1b[2J", "question": {"delete": "all"}},
]


class Gateway:
    def get(self, path: str, **query: Any) -> Any:
        assert (path, query) == ("/approvals", {"session_id": "s"})
        return {"approvals": ASKED}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, step: int, stdin: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stdin", stdin)
    return _shown_and_meant(cast("GatewayClient", Gateway()), "s", step)


def test_a_person_says_which_question_is_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(monkeypatch, 4, Terminal("y\n")) == "2.17"
    told = capsys.readouterr()
    assert 'step 4 (b [2J) asks, as 2.17: {"delete":"all"}' in told.err and not told.out.strip()
    for said in ("n\n", "\n"):
        with pytest.raises(typer.Exit):
            shown(monkeypatch, 4, Terminal(said))


def test_a_program_must_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"--question 2\.17"):
        shown(monkeypatch, 4, io.StringIO("y\n"))
    with pytest.raises(NotWaiting, match="step 5 does not wait"):
        shown(monkeypatch, 5, Terminal("y\n"))
