"""What the commands print comes out on a terminal or pipe of any encoding, and JSON is JSON there."""

import json
import os
import subprocess
import sys

import pytest

SAID = "📡 für – caf\udce9"
PROGRAM = f"""
from app.cli.console import print_json, print_json_text, print_line, print_table, print_text, say, take_any_text
take_any_text()
print_json({{"msg": {SAID[:-1]!r}}})
print_json_text({json.dumps({"msg": SAID[:-1]}, ensure_ascii=False)!r})
print_line({SAID!r})
print_text({SAID!r})
print_table(("a", "b"), [({SAID!r}, "→")])
say({SAID!r})
"""
COMMAND = "import sys; from app.cli.main import app; sys.argv[0] = 'stellwerk'; app()"


def ran(program: str, *arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "STELLWERK_HOME": "/nonexistent", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_text_in_any_encoding(encoding: str) -> None:
    done = ran(PROGRAM, encoding=encoding)
    assert done.returncode == 0, done.stderr
    as_json, text_as_json, *lines = done.stdout.splitlines()
    assert json.loads(as_json) == json.loads(text_as_json) == {"msg": SAID[:-1]}, "in UTF-8, or escaped"
    assert as_json.decode("utf-8").isascii() == (encoding != "utf-8")
    assert len(lines) == 3
    for line in lines:
        assert ("\\U0001f4e1" in line.decode(encoding)) == (encoding != "utf-8")
        assert b"caf\\udce9" in line or "caf\ufffd".encode(encoding, "backslashreplace") in line
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["openapi"], ["sessions"]])
def test_commands_in_ascii(arguments: list[str]) -> None:
    done = ran(COMMAND, *arguments, encoding="ascii")
    assert done.returncode == (1 if arguments == ["sessions"] else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.isascii()
    if arguments == ["openapi"]:
        assert json.loads(done.stdout)["info"]["title"] == "Stellwerk"
