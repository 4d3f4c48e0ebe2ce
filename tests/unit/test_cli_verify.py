"""`stellwerk verify FILE` reads what a person means, and tells what was changed from what could not be checked."""

import gzip
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.events.proof import export
from tests.unit.test_verify import ENTRIES, STATE

BEGUN = replace(STATE, head=2, head_chain=ENTRIES[1].chain, closed=False, status="created")
LINES = [export.header_line(BEGUN), *(export.event_line(BEGUN, entry) for entry in ENTRIES[:2])]
EXPORT = b"".join([*LINES, export.seal_line(hashlib.sha256(b"".join(LINES)).hexdigest())])


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "session.jsonl"
    file.write_bytes(EXPORT)
    return file


def test_what_was_written_and_what_was_changed(file: Path) -> None:
    whole = verify(file, "--head-chain", BEGUN.head_chain.hex())
    assert whole.exit_code == 0 and "2 event(s), 0 artifact(s): nothing was changed" in whole.stdout
    assert verify(file, "--head-chain", "00" * 32).exit_code == 1
    file.write_bytes(EXPORT.replace(b"step 2", b"step 3"))
    assert verify(file).exit_code == 1
    assert verify(file, "--all").exit_code == 2 and verify(file, "--head-chain", "00").exit_code == 2


def a_link(file: Path) -> Path:
    (link := file.with_name("link.jsonl")).symlink_to(file)
    return link


def a_loop(file: Path) -> Path:
    (loop := file.with_name("loop.jsonl")).symlink_to("loop.jsonl")
    return loop


def a_pipe(file: Path) -> Path:
    os.mkfifo(pipe := file.with_name("pipe"))  # a name that could be a session's
    return pipe


def a_socket(file: Path) -> Path:
    path = file.with_name("socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def a_packed(file: Path) -> Path:
    (packed := file.with_name("session.jsonl.gz")).write_bytes(gzip.compress(bytes(100_000_000)))
    return packed


def a_huge(file: Path) -> Path:
    os.truncate(file, 1 << 40)  # takes no room on the disk
    return file


def a_long_line(file: Path) -> Path:
    with file.open("ab") as longer:
        longer.write(b'{"artifact":"' + bytes(70_000_000))
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (a_link, "is a link; name the file itself"),
        (a_loop, "is a link; name the file itself"),
        (a_pipe, "is a pipe; only a regular file is read"),
        (a_socket, "cannot be read"),
        (lambda file: file.parent, "is a directory; only a regular file is read"),
        (lambda _: Path("/dev/zero"), "is a device; only a regular file is read"),
        (lambda _: Path("/dev/tty"), ""),
        (lambda file: file / "within", "cannot be read"),
        (lambda file: file.with_name("none.jsonl"), "cannot be read"),
        (a_packed, "is packed (gzip); unpack it first"),
        (a_huge, "which is more than --max-bytes 1073741824"),
        (a_long_line, "line 5 of "),
        (lambda _: Path(__file__), "the first line is not the header of an export"),
    ],
)
def test_what_cannot_be_checked_is_a_sentence(file: Path, make: Callable[[Path], Path], told: str) -> None:
    found = verify(make(file))
    assert found.exit_code == 3, found
    assert " ".join(found.stderr.split()).startswith("stellwerk: not checked: ")
    assert told in " ".join(found.stderr.split())


def test_a_person_says_how_much_is_read(file: Path) -> None:
    assert verify(file, "--max-bytes", len(EXPORT)).exit_code == 0
    assert verify(file, "--max-bytes", len(EXPORT) - 1).exit_code == 3
    assert verify(file, "--max-line-bytes", max(map(len, EXPORT.splitlines(keepends=True)))).exit_code == 0
    assert verify(file, "--max-line-bytes", 50).exit_code == 3
    assert verify(file, "--max-bytes", 0).exit_code == 2


def test_a_database_that_is_away_was_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_HOME", str(tmp_path))
    assert verify("--all").exit_code == 3  # no stack runs there
    monkeypatch.setenv("STELLWERK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    away = verify("--all")
    assert away.exit_code == 3 and "the database does not answer" in away.stderr
