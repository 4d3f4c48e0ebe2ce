"""`stellwerk keys` and commands with a key in place of the stack's token, against a real gateway."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.principals.secrets import is_key
from tests.keyed import control_events, make_key
from tests.serving import TOKEN, Served, serving
from tests.stacks import stellwerk

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Awaitable[Done]]


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
def run(served: Served, tmp_path: Path) -> Run:
    """Runs a command as scripts do, with the address and a token or key in the environment."""

    async def command(*arguments: str, token: str = TOKEN) -> Done:
        variables = {"STELLWERK_URL": served.url, "STELLWERK_TOKEN": token}
        return await asyncio.to_thread(stellwerk, tmp_path, *arguments, variables=variables)

    return command


@pytest.mark.parametrize("command", ["create", "list", "revoke", "rotate"])
def test_every_command_has_help(command: str) -> None:
    helped = CliRunner().invoke(app, ["keys", command, "--help"])
    assert helped.exit_code == 0
    assert f"stellwerk keys {command}" in helped.stdout.partition("Examples:")[2]
    assert command in CliRunner().invoke(app, ["keys", "--help"]).stdout


async def test_a_key_from_its_making_to_its_end(served: Served, run: Run) -> None:
    made = await run("keys", "create", "ci", "--project", "web", "--scope", "submit, read", "--expires", "90d")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert is_key(key), "it alone goes to standard output, for scripts"
    assert "ci of web: read, submit; in force until " in made.stderr and "not shown again" in made.stderr
    listed = await run("keys", "list")
    row = listed.stdout.splitlines()[0].split("\t")
    assert row[1:4] == ["ci", "web", "read,submit"] and row[4].endswith(" by owner") and row[5].startswith("in force")
    assert key not in listed.stdout

    rotated = await run("keys", "rotate", "ci", "--valid", "0s", "--reason", "yearly", "--json")
    successor = json.loads(rotated.stdout)
    assert is_key(successor["key"]) and successor["record"]["name"] == "ci"
    keys = [json.loads(line) for line in (await run("keys", "list", "--all", "--json")).stdout.splitlines()]
    assert [key["in_force"] for key in keys] == [True, False]
    assert len((await run("keys", "list", "--json")).stdout.splitlines()) == 1
    assert "expired, rotated" in (await run("keys", "list", "--all")).stdout

    revoked = await run("keys", "revoke", "ci", "--reason", "the laptop was lost")
    assert (revoked.returncode, revoked.stdout) == (0, "ci of web is revoked\n")
    assert (await run("keys", "revoke", keys[0]["key_id"])).returncode == 0
    assert (await run("keys", "list")).stdout == ""
    reasons = [event["reason"] for event in await control_events(served, "web")]
    assert reasons[:3] == [None, "yearly", "the laptop was lost"]


async def test_a_name_is_revoked_with_the_keys_that_were_rotated(served: Served, run: Run) -> None:
    key = await make_key(served, "read", project="web", name="ci")
    assert (await run("keys", "rotate", "ci")).returncode == 0
    revoked = await run("keys", "revoke", "ci", "--reason", "it leaked")
    assert revoked.stdout == "ci of web is revoked\nci of web, which was rotated, is revoked\n"
    assert (await run("keys", "list")).stdout == ""
    assert (await run("sessions", token=key.key)).returncode == 1


REFUSED = (
    (["create", "owner", "--scope", "read"], 2, "cannot be a key's name"),
    (["create", "ci", "--scope", "root"], 2, "scopes"),
    (["create", "ci", "--scope", " , "], 2, "scopes"),
    (["create", "ci"], 2, "--scope"),
    (["create", "ci", "--scope", "read", "--project", "No"], 2, "cannot be a project's name"),
    (["create", "ci", "--scope", "read", "--expires", "soon"], 2, "it looks like 30d"),
    (["create", "ci", "--scope", "read", "--expires", "0s"], 2, "expires_in"),
    (["create", "taken", "--scope", "read"], 1, "revoke or rotate it, or take another name"),
    (["revoke", "nothing"], 2, "there is no key 'nothing'"),
    (["revoke", "twice"], 2, "there is more than one key 'twice'"),
    (["rotate", "taken", "--valid", "-1d"], 2, "it looks like 30d"),
)


async def test_what_is_refused_is_said_in_a_line(served: Served, run: Run) -> None:
    await make_key(served, "read", project="default", name="taken")
    for project in ("one", "two"):
        await make_key(served, "read", project=project, name="twice")
    answers = await asyncio.gather(*(run("keys", *arguments) for arguments, _, _ in REFUSED))
    for (arguments, status, said), refused in zip(REFUSED, answers, strict=True):
        assert (refused.returncode, refused.stdout) == (status, ""), (arguments, refused.stderr)
        assert said in " ".join(refused.stderr.split()), (arguments, refused.stderr)
        assert "Traceback" not in refused.stderr


async def test_commands_with_a_key(served: Served, run: Run) -> None:
    """It sees its own project; what it may not is said in one line, with the scope that is missing."""
    key = await make_key(served, "read", "submit", project="web", name="ci")
    theirs = (await served.create_session("theirs", project="other"))["session_id"]
    submitted = await run("submit", "ours", "--idempotency-key", "1", token=key.key)
    assert submitted.returncode == 0, submitted.stderr
    session_id = submitted.stdout.strip()
    shown = (["sessions"], ["show", session_id], ["tail", session_id], ["approvals"])
    for seen in await asyncio.gather(*(run(*arguments, token=key.key) for arguments in shown)):
        assert seen.returncode == 0 and "theirs" not in seen.stdout, seen.stderr
    hidden = await run("show", theirs, token=key.key)
    assert (hidden.returncode, hidden.stdout) == (1, "") and "there is no session" in hidden.stderr

    lacking = {"cancel": "operate", "retry": "operate", "keys list": "admin", "keys revoke": "admin"}
    commands = ([*command.split(), *([] if "list" in command else [session_id])] for command in lacking)
    answers = await asyncio.gather(*(run(*arguments, token=key.key) for arguments in commands))
    for scope, refused in zip(lacking.values(), answers, strict=True):
        needs = f"stellwerk: 'ci' may not do this: it needs the scope {scope}, and has read, submit\n"
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", needs)
    await served.client.post(f"/keys/{key.key_id}/revoke")
    ended = await run("sessions", token=key.key)
    assert ended.returncode == 1 and "it was revoked, has expired, or was never made" in " ".join(ended.stderr.split())


async def test_an_admin_of_a_project_keeps_its_keys(served: Served, run: Run) -> None:
    admin = await make_key(served, "admin", project="web", name="boss")
    await make_key(served, "read", project="other", name="ci")
    assert (await run("keys", "create", "ci", "--scope", "read", token=admin.key)).returncode == 0
    rows = (await run("keys", "list", token=admin.key)).stdout.splitlines()
    assert [row.split("\t")[1:3] for row in rows] == [["ci", "web"], ["boss", "web"]]
    elsewhere = await run("keys", "create", "x", "--scope", "read", "--project", "other", token=admin.key)
    assert elsewhere.returncode == 2 and "leave `project` out" in elsewhere.stderr
    assert (await run("keys", "revoke", "ci", token=admin.key)).stdout == "ci of web is revoked\n"
    last = await run("keys", "revoke", "boss", token=admin.key)
    assert last.returncode == 1 and "last key with the scope admin" in last.stderr
