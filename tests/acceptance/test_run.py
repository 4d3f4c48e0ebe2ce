"""`stellwerk run` as people run it, each time with a stack of its own."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from app.embedded.running import running_stack, supervisor_pid
from tests.processes import wait_until
from tests.stacks import stack, started, stellwerk


def test_without_arguments_it_repairs_a_sample_and_leaves_nothing_running(home: Path) -> None:
    done = stellwerk(home, "run", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    closing = events[-1]
    assert (closing["t"], closing["status"]) == ("session_event", "succeeded")
    result = closing["result"]
    assert result["findings_after"] < result["findings_before"]
    assert result["tests_after"] == result["tests_before"] == {"passed": 6, "failed": 0, "errors": 0}
    assert result["summary"] and result["branch"]
    assert Path(result["patch"]).is_absolute()
    decisions = [e["details"]["next_agent"] for e in events if e["t"] == "agent_event" and e["phase"] == "decision"]
    assert {"research", "architect", "codesmith", "reviewfix"} <= set(decisions)

    assert re.search(r"^page +http://127\.0\.0\.1:\d+/#token=\S+$", done.stderr, re.MULTILINE)
    assert supervisor_pid(home) is None
    (sample,) = re.findall(r"^sample +(.+)$", done.stderr, re.MULTILINE)
    subprocess.run(["git", "-C", sample, "apply", result["patch"]], check=True)


def test_nothing_of_the_directory_that_it_is_called_in_is_executed(home: Path, tmp_path: Path) -> None:
    for name in ("app", "workers", "migrations", "celery", "ruff", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the project runs')\n")
    done = stellwerk(home, "run", "--json", "--path", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the project runs" not in done.stdout + done.stderr


def test_what_was_interrupted_goes_on_at_the_next_up(home: Path) -> None:
    gate = home / "gate"
    given = json.dumps({"gate": str(gate)})
    with started(home, "run", "wait", "--workflow", "gated", "--input", given, "--json") as run:
        assert run.stdout is not None
        for line in run.stdout:
            if '"agent":"hold","status":"running"' in line:
                break
        session_id = json.loads(line)["session_id"]
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=40)
        assert run.returncode == 130
    said = (home / "stderr").read_text()
    assert f"session {session_id} goes on at the next `stellwerk up`" in said
    assert "Traceback" not in said
    assert supervisor_pid(home) is None

    gate.touch()
    with stack(home):
        followed = stellwerk(home, "tail", session_id, "--follow", "--json")
        assert followed.returncode == 0, followed.stderr
        events = [json.loads(line) for line in followed.stdout.splitlines()]
        assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["status"] == "succeeded"


def test_two_at_once_share_a_stack_that_the_last_one_stops(home: Path) -> None:
    gates = [home / "first", home / "second"]
    commands = [["run", "wait", "--workflow", "gated", "--input", json.dumps({"gate": str(gate)})] for gate in gates]
    with started(home, *commands[0]) as first, started(home, *commands[1], errors="stderr2") as second:
        wait_until(lambda: running_stack(home), what="the stack runs", patience=90)
        info = running_stack(home)
        for gate, run in zip(gates, (first, second), strict=True):
            assert running_stack(home) == info
            gate.touch()
            output, _ = run.communicate(timeout=60)
            assert (run.returncode, "succeeded" in output) == (0, True)
    assert supervisor_pid(home) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path", "/no/such/place"], "/no/such/place does not exist"),
        (["--path", __file__], "is not a directory"),
        (["--path", ".", "--repo", "https://example.org/x"], "not both"),
        (["--repo", "ext::sh -c id"], "no https:// or ssh:// address"),
        (["--workflow", "gated", "--input", "{"], "--input is no JSON"),
        (["--workflow", "gated", "--input", "[1]"], "must be a JSON object"),
        (["--workflow", "gated", "--input", "@/no/such/file"], "/no/such/file cannot be read"),
        (["  "], "the task is empty"),
        (["--no-such-option"], "No such option"),
        (["--url", "nonsense"], "is no address"),
    ],
)
def test_bad_usage_is_said_before_anything_starts(home: Path, arguments: list[str], message: str) -> None:
    done = stellwerk(home, "run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not list(home.iterdir())
