"""The Claude CLI: what its lines say, what its wrong ends mean, and the real one at its limits."""

import asyncio
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.errors import ModelFaltered, ModelRefused
from tests.cluster import processes_naming
from tests.models.servers import ModelServer, Reply
from tests.models.step import Log, change_settings, step_of
from workers.models.claude import Work, work
from workers.models.claude_lines import Began, Denied, Result, Said, Thought, UsedTool, read_line

LINES = Path(__file__).parent / "lines"
GOOD = (LINES / "claude-stream.jsonl").read_bytes().splitlines(keepends=True)
FakeCli = Callable[[str], None]


def said_in(name: str) -> list[Said]:
    return [said for line in (LINES / f"{name}.jsonl").read_bytes().splitlines() for said in read_line(line)]


def test_what_recorded_lines_say() -> None:
    began, thought, tool, last, result = said_in("claude-stream")
    assert isinstance(began, Began) and began.model == "claude-opus-5-5" and began.servers == {}
    assert thought == Thought("I will do it now.", "text") and last == Thought("All done.", "text")
    assert tool == UsedTool("Write", "/srv/ws/out.txt")
    assert isinstance(result, Result) and (result.is_error, result.turns, result.cost) == (False, 2, 0.01044)
    assert result.usage == {"input_tokens": 2600, "output_tokens": 40} and result.text == "All done. "
    partial = [type(said) for said in said_in("claude-stream-partial")]
    assert partial == [Began, Thought, UsedTool, Thought, Result], "the pieces say nothing that the whole does not"
    denied = [said for said in said_in("claude-stream-denied") if isinstance(said, Denied)]
    assert [one.tool for one in denied] == ["Write"]
    assert said_in("claude-stream-mcp")[0].servers == {"tick": "connected"}  # type: ignore[union-attr]  # it is Began


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    (tmp_path / "tree").mkdir()
    settings = Settings(anthropic_api_key=SecretStr("sk-ant-test-0123456789abcdef"), claude_max_retries=0)
    with step_of("codesmith", tmp_path / "tree", Log(), settings) as log:
        yield log


@pytest.fixture
def fake_cli(tmp_path: Path) -> FakeCli:
    """A program in the CLI's place, that does what a shell script says; $LINES has recorded ones."""

    def write(script: str) -> None:
        file = tmp_path / "claude"
        file.write_text(f"#!/bin/sh\nIFS=\nLINES='{LINES}/claude-stream.jsonl'\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        change_settings(claude_command=str(file))

    return write


async def worked(log: Log, tmp_path: Path) -> Work:
    return await work("do it", instructions="well", worktree=tmp_path / "tree")


async def test_a_good_run(fake_cli: FakeCli, log: Log, tmp_path: Path) -> None:
    fake_cli('test "$(cat)" = "do it" && cat $LINES')
    done = await worked(log, tmp_path)
    assert (done.text, done.turns, done.cost, done.denied, done.stopped) == ("All done. ", 2, 0.01044, [], None)
    assert log.said("think") == ["💭 I will do it now.", "💭 All done."]
    assert log.said("progress") == ["🔧 Write /srv/ws/out.txt"]
    (call,) = log.calls
    assert (call.model, call.cost, call.error) == ("claude-opus-5-5", 0.01044, None)
    assert call.usage == {"input_tokens": 2600, "output_tokens": 40} and call.trace["cli_session"]


async def test_a_line_of_ten_megabytes(fake_cli: FakeCli, log: Log, tmp_path: Path) -> None:
    line = orjson.dumps({"type": "user", "message": {"content": "x" * 10_000_000}})
    (tmp_path / "long").write_bytes(line + b"\n")
    fake_cli(f"cat '{tmp_path}/long' $LINES")
    assert (await worked(log, tmp_path)).turns == 2


RESULT = '{"type":"result","subtype":"%s","is_error":true,"result":"%s","api_error_status":%s,"num_turns":1}'


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("exit 3", ModelRefused, "ended with 3 and without a result, after 0 line.*said: nothing"),
        ("echo error: unknown option >&2; exit 1", ModelRefused, "said: error: unknown option"),
        ("head -2 $LINES", ModelFaltered, "ended with 0 and without a result, after 2 line"),
        ("head -2 $LINES; kill -9 $$", ModelFaltered, "ended with -9 and without a result"),
        ('head -2 $LINES; printf \'{"type":"assis\'', ModelFaltered, "in the middle of a line, after 2"),
        ("echo Segmentation fault", ModelFaltered, "a line that is no JSON"),
        ("head -2 $LINES; sleep 600 & wait", ModelFaltered, "was silent for 0:00:01"),
        ("head -c 17000000 /dev/zero | tr '\\0' x; echo", ModelRefused, "a line of more than"),
        (f"echo '{RESULT % ('success', 'overloaded', 529)}'; exit 1", ModelFaltered, "status 529"),
        (f"echo '{RESULT % ('success', 'unreachable', 'null')}'; exit 1", ModelFaltered, "status None"),
        (f"echo '{RESULT % ('success', 'bad key', 401)}'; exit 1", ModelRefused, "status 401"),
        (f"echo '{RESULT % ('success', 'bad request', 400)}'; exit 1", ModelRefused, "status 400"),
    ],
)
async def test_wrong_ends_are_told_apart(
    fake_cli: FakeCli, log: Log, tmp_path: Path, script: str, error: Any, says: str
) -> None:
    change_settings(claude_silence=timedelta(seconds=1))
    fake_cli(script)
    with pytest.raises(error, match=says) as raised:
        await worked(log, tmp_path)
    assert raised.type is error
    (call,) = log.calls
    assert call.error and call.error.startswith(error.__name__)
    assert not processes_naming(str(tmp_path))


@pytest.mark.parametrize("subtype", ["error_max_turns", "error_max_budget_usd"])
async def test_work_up_to_a_limit_counts(fake_cli: FakeCli, log: Log, tmp_path: Path, subtype: str) -> None:
    fake_cli(f"echo '{RESULT % (subtype, '', 'null')}'; exit 1")
    assert (await worked(log, tmp_path)).stopped


async def test_nothing_of_ours_is_in_its_environment(
    fake_cli: FakeCli, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STELLWERK_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "a secret of ours")
    change_settings(token=SecretStr("a secret of ours"), openai_api_key=SecretStr("a secret of ours"))
    fake_cli(f"env > '{tmp_path}/seen'; cat $LINES")
    await worked(log, tmp_path)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert "a secret of ours" not in seen.values()
    assert seen["ANTHROPIC_API_KEY"].startswith("sk-ant-test") and not Path(seen["HOME"]).exists()


@pytest.fixture
def real_cli(claude_cli: str, log: Log, models: ModelServer) -> Log:
    change_settings(anthropic_base_url=models.configured().anthropic_base_url, claude_command=claude_cli)
    return log


async def test_it_cannot_leave_the_worktree(real_cli: Log, models: ModelServer, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    models.says(
        "messages",
        Reply(tools=[("Write", {"file_path": str(outside), "content": "out"})]),
        Reply(tools=[("Bash", {"command": f"touch {outside}"})]),
        Reply(tools=[("Write", {"file_path": "inside.txt", "content": "in"})]),
        Reply("I did what I could."),
    )
    done = await worked(real_cli, tmp_path)
    assert not outside.exists() and (tmp_path / "tree" / "inside.txt").read_text() == "in"
    assert "Write" in done.denied
    assert any(message.startswith("⛔ Write was denied") for message in real_cli.said("progress"))


async def test_it_runs_no_hook_that_a_project_brings(real_cli: Log, models: ModelServer, tmp_path: Path) -> None:
    hooked = tmp_path / "hooked"
    hook = {"hooks": [{"type": "command", "command": f"touch {hooked}"}]}
    (tmp_path / "tree" / ".claude").mkdir()
    hooks = {"hooks": {"SessionStart": [hook], "PreToolUse": [hook], "Stop": [hook]}}
    (tmp_path / "tree" / ".claude" / "settings.json").write_bytes(orjson.dumps(hooks))
    models.says("messages", Reply(tools=[("Write", {"file_path": "a.txt", "content": "a"})]), Reply("Done."))
    await worked(real_cli, tmp_path)
    assert (tmp_path / "tree" / "a.txt").exists() and not hooked.exists()


async def test_its_own_retries_are_seen(real_cli: Log, models: ModelServer, tmp_path: Path) -> None:
    change_settings(claude_max_retries=1)
    models.says("messages", Reply("overloaded", status=529), Reply("Done."))
    await worked(real_cli, tmp_path)
    (retried,) = [report for report in real_cli.reports if "tries again" in report.message]
    assert retried.details["error_status"] == 529 and retried.details["attempt"] == 1


async def test_cancelling_ends_the_whole_family(real_cli: Log, models: ModelServer, tmp_path: Path) -> None:
    models.says("messages", Reply("never", hold=True))
    running = asyncio.create_task(worked(real_cli, tmp_path))
    assert await asyncio.to_thread(models.reached.wait, 30)
    assert processes_naming("--output-format stream-json")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not [one for one in processes_naming("--output-format stream-json") if one.cwd() == str(tmp_path / "tree")]
    (call,) = real_cli.calls
    assert call.error == "CancelledError"
