"""The commands against a running stack, as people and scripts call them."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from app.embedded.running import StackInfo
from app.embedded.supervisor import WORKER
from tests.conftest import temporary_home
from tests.processes import wait_until
from tests.stacks import STELLWERK, environment, stack, started, stellwerk
from workers.workflows.sample import write_sample


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with temporary_home() as directory:
        yield directory


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[StackInfo]:
    with stack(home) as info:
        yield info


@pytest.fixture(scope="module")
def project(home: Path) -> Path:
    """The sample in a subdirectory of a git repository."""
    top = home / "a repository"
    write_sample(top / "the till")
    subprocess.run(["git", "init", "--quiet", top], check=True)
    return top / "the till"


@pytest.fixture(scope="module")
def repaired(home: Path, running: StackInfo, project: Path) -> str:
    """A session that has ended well."""
    session_id = submit(home, "--path", str(project))
    assert stellwerk(home, "tail", session_id, "--follow").returncode == 0
    return session_id


def submit(home: Path, *arguments: str) -> str:
    """Waits for the worker of a fresh stack: until it has told what it serves, the gateway refuses."""
    answers: list[str] = []

    def is_accepted() -> bool:
        done = stellwerk(home, "submit", *arguments)
        answers.append(done.stdout.strip() or done.stderr)
        return done.returncode == 0

    wait_until(is_accepted, what="the worker serves")
    return answers[-1]


def gated(home: Path, name: str, **state: Any) -> tuple[str, Path]:
    """A session that waits until the file exists."""
    gate = home / name
    return submit(home, name, "--workflow", "gated", "--input", json.dumps({"gate": str(gate), **state})), gate


def view_of(home: Path, session_id: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(stellwerk(home, "show", session_id, "--json").stdout)
    return view


def running_agent(home: Path, session_id: str) -> str | None:
    return next((s["agent"] for s in view_of(home, session_id)["steps"] if s["status"] == "running"), None)


def offsets(output: str) -> list[int]:
    return [json.loads(line)["offset"] for line in output.splitlines()]


def test_without_a_stack_the_commands_say_what_to_do(tmp_path: Path) -> None:
    gateway, database = "STELLWERK_URL and STELLWERK_TOKEN", "STELLWERK_DATABASE_URL"
    for arguments, wanted in (
        (["sessions"], gateway),
        (["tail", "1"], gateway),
        (["approvals"], gateway),
        (["prune", "--older-than", "1d"], gateway),
        (["rebuild", "--all"], database),
        (["verify", "--all"], database),
        (["epoch", "bump", "--reason", "restored"], database),
    ):
        done = stellwerk(tmp_path, *arguments)
        not_checked = 3
        assert (done.returncode, done.stdout) == (not_checked if arguments[0] == "verify" else 1, "")
        start = "start one with `stellwerk up`"
        assert f"no stack is running in {tmp_path}: {start}, or set {wanted}\n" in done.stderr
    assert stellwerk(tmp_path, "doctor").returncode == 0


def test_address_and_token_from_the_environment(home: Path, running: StackInfo, tmp_path: Path) -> None:
    named = {"STELLWERK_URL": running.url, "STELLWERK_TOKEN": running.token}
    assert stellwerk(tmp_path, "sessions", variables=named).returncode == 0
    wrong = stellwerk(tmp_path, "sessions", "--url", running.url, "--token", "wrong")
    assert wrong.returncode == 1
    assert "token" in wrong.stderr
    ours = stellwerk(home, "sessions", variables={"STELLWERK_TOKEN": "wrong"})
    assert ours.returncode == 1, "a key in the environment must not act as the owner of the stack here"
    unnamed = stellwerk(tmp_path, "sessions", "--url", running.url)
    assert unnamed.returncode == 2
    assert "--token" in unnamed.stderr
    away = stellwerk(tmp_path, "sessions", variables=named | {"STELLWERK_URL": "http://127.0.0.1:9"})
    assert away.returncode == 1
    assert "http://127.0.0.1:9 does not answer" in away.stderr


def test_submit_twice_with_a_key_is_one_session(home: Path, running: StackInfo, repaired: str, project: Path) -> None:
    arguments = ["submit", "--path", str(project), "--idempotency-key", "k1", "--json"]
    first, second = (json.loads(stellwerk(home, *arguments).stdout) for _ in range(2))
    assert first["session_id"] == second["session_id"]
    assert first["events"] == f"/sessions/{first['session_id']}/events"
    other = stellwerk(home, "submit", "another task", *arguments[1:])
    assert other.returncode == 2
    assert "Idempotency-Key" in other.stderr
    unknown = stellwerk(home, "submit", "--workflow", "no-such")
    assert unknown.returncode == 2
    assert "known: chatty, gated, paced, repair" in unknown.stderr


def test_tail_gives_what_lies_behind_the_cursor(home: Path, repaired: str) -> None:
    everything = stellwerk(home, "tail", repaired, "--json").stdout
    head = view_of(home, repaired)["head"]
    assert offsets(everything) == list(range(1, head + 1))
    rest = stellwerk(home, "tail", repaired, "--json", "--after", str(head - 3), "--follow")
    assert rest.stdout == "".join(everything.splitlines(keepends=True)[-3:])
    assert stellwerk(home, "tail", repaired, "--after", str(head), "--follow").stdout == ""
    beyond = stellwerk(home, "tail", repaired, "--json", "--after", str(head + 7))
    assert offsets(beyond.stdout) == list(range(1, head + 1))
    assert beyond.stderr.startswith("reset: ")

    lines = stellwerk(home, "tail", repaired[-12:], variables={"FORCE_COLOR": "1"})
    assert "🎯 Routing to codesmith" in lines.stdout
    assert "\x1b" not in lines.stdout
    assert len(lines.stdout.splitlines()) == head

    unknown = stellwerk(home, "tail", "01a202de-1f5c-74f1-938c-dcded9cd4748")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no" in unknown.stderr


def test_a_reader_that_goes_away_ends_tail_quietly(home: Path, repaired: str) -> None:
    command = f"'{STELLWERK}' tail {repaired} --json | head -1"
    done = subprocess.run(["sh", "-c", command], env=environment(home), capture_output=True, text=True, check=True)
    assert offsets(done.stdout) == [1]
    assert done.stderr == ""


def test_tail_lives_through_a_killed_gateway_and_run_detaches(home: Path, running: StackInfo) -> None:
    gate = home / "through"
    given = json.dumps({"gate": str(gate)})
    with started(home, "run", "x", "--workflow", "gated", "--input", given, "--json", errors="run.err") as run:
        assert run.stdout is not None
        line = next(line for line in run.stdout if '"agent":"hold","status":"running"' in line)
        session_id = json.loads(line)["session_id"]
        with started(home, "tail", session_id, "--follow", "--json", errors="tail.err") as tail:
            assert tail.stdout is not None
            before = [next(tail.stdout)]
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=20)
            assert run.returncode == 130
            assert f"stellwerk tail {session_id} --follow" in (home / "run.err").read_text()

            (gateway,) = (
                p for p in psutil.Process(running.pid).children(recursive=True) if "app.gateway" in p.cmdline()
            )
            gateway.send_signal(signal.SIGKILL)
            wait_until(lambda: "trying again" in (home / "tail.err").read_text(), what="tail misses the gateway")
            gate.touch()
            rest = tail.stdout.read()
            tail.wait(timeout=60)
    output = "".join(before) + rest
    assert tail.returncode == 0
    assert offsets(output) == list(range(1, len(output.splitlines()) + 1))
    assert json.loads(output.splitlines()[-1])["status"] == "succeeded"
    assert "connected again" in (home / "tail.err").read_text()


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["plain", "no-color", "dumb"])
def test_on_a_terminal_there_are_bars(home: Path, repaired: str, project: Path, variables: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    command = [STELLWERK, "run", "--path", str(project)]
    variables = environment(home) | {"TERM": "xterm-256color", "COLUMNS": "120"} | variables
    with subprocess.Popen(command, env=variables, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        shown = read_terminal(ours)
    assert run.returncode == 0, shown
    assert "🎯 Routing to codesmith" in shown
    assert re.search(r"git -C '.*a repository' apply '?/", shown)
    assert re.search(r"git -C '.*a repository' fetch '?/.+ stellwerk/", shown)
    assert ("━━━" in shown) == (variables["TERM"] != "dumb")
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", shown)) == (
        "NO_COLOR" not in variables and variables["TERM"] != "dumb"
    )


def read_terminal(terminal: int) -> str:
    """Until the last program has left it."""
    shown = b""
    with suppress(OSError):  # how Linux says so
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    return shown.decode()


def test_cancel_ends_a_run_with_status_1(home: Path, repaired: str) -> None:
    given = json.dumps({"gate": str(home / "never")})
    before = newest(home)
    with started(home, "run", "x", "--workflow", "gated", "--input", given, errors="cancelled.err") as run:
        wait_until(lambda: newest(home) != before, what="it is submitted")
        session_id = newest(home)
        wait_until(lambda: running_agent(home, session_id) == "hold", what="the step runs")
        done = stellwerk(home, "cancel", session_id, "--reason", "the [bold]wrong[/bold] one")
        assert done.stdout == f"{session_id} cancelled\n"
        output, _ = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "the [bold]wrong[/bold] one" in output
    assert "cancelled" in (home / "cancelled.err").read_text()
    assert stellwerk(home, "cancel", session_id).returncode == 0


def newest(home: Path) -> str:
    return str(json.loads(stellwerk(home, "sessions", "--limit", "1", "--json").stdout)["session_id"])


def test_a_program_reports_progress_and_a_person_answers(home: Path, running: StackInfo) -> None:
    session_id, gate = gated(home, "answered", asks=True)
    gate.touch()
    wait_until(lambda: view_of(home, session_id)["status"] == "waiting", what="it asks")
    events = [json.loads(line) for line in stellwerk(home, "tail", session_id, "--json").stdout.splitlines()]
    (reported,) = (e for e in events if e["t"] == "agent_event")
    assert (reported["agent"], reported["phase"], reported["pct"]) == ("announce", "think", 0.25)
    assert (reported["msg"], reported["details"]) == ("from a program", {"slow": True, "folder": "src"})

    (waiting,) = (json.loads(line) for line in stellwerk(home, "approvals", "--json").stdout.splitlines())
    assert (waiting["session_id"], waiting["question"]) == (session_id, {"question": "[bold]go on?[/bold]"})
    assert "[bold]go on?[/bold]" in stellwerk(home, "approvals", "--session", session_id[-9:]).stdout
    step = str(waiting["step"])
    question = ("--question", waiting["id"])
    assert stellwerk(home, "answer", session_id, step).returncode == 2
    assert stellwerk(home, "answer", session_id, step, "--verdict", "approved").returncode == 2
    assert stellwerk(home, "answer", session_id, "1", "--verdict", "approved").returncode == 1
    given = (*question, "--answer", '"carefully"', "--comment", "x")
    assert stellwerk(home, "answer", session_id, step, *given).returncode == 0
    assert stellwerk(home, "tail", session_id, "--follow").returncode == 0
    assert view_of(home, session_id)["result"]["outcome"] == "carefully"


def test_a_report_without_a_lease_is_refused(home: Path, repaired: str, running: StackInfo) -> None:
    outside = stellwerk(home, "progress", "0.5", "hello")
    assert outside.returncode == 1
    assert "STELLWERK_STEP_TOKEN" in outside.stderr
    stale = f"step.{repaired}.1.1.{repaired}.supervisor"
    variables = {"STELLWERK_URL": running.url, "STELLWERK_SESSION": repaired, "STELLWERK_STEP_TOKEN": stale}
    assert stellwerk(home, "progress", "0.5", "hello", variables=variables).returncode == 1
    assert stellwerk(home, "progress", "0.5", "hello", "--detail", "nonsense", variables=variables).returncode == 2


def test_patch_and_apply(home: Path, repaired: str, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "repaired.patch"
    assert stellwerk(home, "patch", repaired, "--output", str(file)).returncode == 0
    assert stellwerk(home, "patch", repaired).stdout == file.read_text()
    assert "+++ b/the till/till/money.py" in file.read_text()

    before = (project / "till/money.py").read_text()
    checked = stellwerk(home, "apply", repaired, "--check", cwd=project / "till")
    assert checked.returncode == 0, checked.stderr
    assert (project / "till/money.py").read_text() == before
    assert stellwerk(home, "apply", repaired, cwd=project / "till").returncode == 0
    assert (project / "till/money.py").read_text() != before
    again = stellwerk(home, "apply", repaired)
    assert again.returncode == 1
    assert "does not apply" in again.stderr

    # Where no repository is, even if one lies above: the sample there is not at that repository's top.
    plain = tmp_path / "plain"
    write_sample(plain / "the till")
    assert stellwerk(home, "apply", repaired, "--path", str(plain)).returncode == 0
    assert (plain / "the till/till/money.py").read_text() == (project / "till/money.py").read_text()
    assert stellwerk(home, "apply", repaired, "--path", str(file)).returncode == 2


def test_sessions_in_pages(home: Path, repaired: str) -> None:
    listed = [
        json.loads(line)["session_id"]
        for line in stellwerk(home, "sessions", "--json", "--all", "--limit", "1").stdout.splitlines()
    ]
    assert repaired in listed
    assert listed == sorted(set(listed), reverse=True)
    rows = stellwerk(home, "sessions", "--workflow", "repair", "--status", "succeeded").stdout.splitlines()
    assert all(row.split("\t")[1:3] == ["succeeded", "repair"] for row in rows)
    shown = stellwerk(home, "show", repaired)
    assert "codesmith\tsucceeded" in shown.stdout
    assert stellwerk(home, "show", "").returncode == 1


def test_rebuild_finds_no_difference(home: Path, repaired: str) -> None:
    checked = stellwerk(home, "rebuild", "--all", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{repaired} same" in checked.stdout
    assert stellwerk(home, "rebuild", repaired).stdout == f"{repaired} replaced\n"
    assert stellwerk(home, "rebuild").returncode == 2


def test_prune_leaves_open_sessions_and_the_log(home: Path, repaired: str) -> None:
    waiting, gate = gated(home, "open")
    workspaces = home / "workspaces"
    (workspaces / waiting).mkdir()  # `gated` needs none of its own
    (workspaces / "01a202de-1f5c-74f1-938c-dcded9cd4748").mkdir()
    assert stellwerk(home, "prune", "--older-than", "1d").stdout == ""
    assert stellwerk(home, "prune", "--older-than", "soon").returncode == 2
    assert str(workspaces / repaired) in stellwerk(home, "prune", "--older-than", "0s", "--dry-run").stdout
    assert (workspaces / repaired).exists()
    assert stellwerk(home, "prune", "--older-than", "0s").returncode == 0
    left = {directory.name for directory in workspaces.iterdir() if not directory.name.startswith(".")}
    assert left == {waiting, "01a202de-1f5c-74f1-938c-dcded9cd4748"}
    assert "+++ b/the till" in stellwerk(home, "patch", repaired).stdout
    gate.touch()


def test_doctor(home: Path, running: StackInfo, repaired: str) -> None:
    healthy = stellwerk(home, "doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert {line.split()[0] for line in healthy.stdout.splitlines()} == {"ok"}
    with psycopg.connect(running.database_url) as db:
        os.kill(worker := worker_of(running), signal.SIGSTOP)
        try:
            db.execute("UPDATE workflows SET last_seen = last_seen - interval '1 hour'")
            db.commit()
            ill = stellwerk(home, "doctor")
        finally:
            os.kill(worker, signal.SIGCONT)
    assert ill.returncode == 1
    assert any(line.split()[:2] == ["fail", "workers"] for line in ill.stdout.splitlines())


def worker_of(running: StackInfo) -> int:
    (worker,) = (p for p in psutil.Process(running.pid).children() if WORKER in p.cmdline())
    return worker.pid
