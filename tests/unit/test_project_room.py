"""What a project's own code, and tools on it, may see and do; with a sandbox, as root and as an ordinary user."""

import os
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import Settings
from app.errors import SandboxRequired
from tests.composition import ROOT
from tests.sandboxed import NO_SANDBOX, sandbox
from workers.children import project_room as rooms
from workers.children.guarded import Completed
from workers.children.project_room import SANDBOX_USER, ProjectRoom, project_room

MINUTE = timedelta(minutes=1)
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be anything but what it is")


@pytest.fixture(params=["", "pkg/inner"], ids=["top", "below"])
def below(request: pytest.FixtureRequest) -> str:
    """Where the project lies in its repository."""
    return str(request.param)


async def in_sandbox(room: ProjectRoom, program: str, below: str = "") -> Completed:
    cwd = room.files / below
    cwd.mkdir(parents=True)
    return await room.run([sys.executable, "-c", program], cwd=cwd, timeout=MINUTE)


@pytest.fixture
def boxed(monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = sandbox()
    if not found:
        pytest.skip(NO_SANDBOX)
    monkeypatch.setenv("PATH", os.defpath)
    return Settings(host="0.0.0.0", sandbox=found)


async def test_project_code_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_TOKEN", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    async with project_room(Settings()) as room:
        done = await in_sandbox(room, "import os; print(*sorted(os.environ)); print(os.environ['HOME'])")
    names, home = done.stdout.decode().splitlines()
    assert set(names.split()) <= {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR"}
    assert home != os.environ.get("HOME")
    assert not Path(home).exists()


async def test_where_a_sandbox_is_required() -> None:
    async with project_room(Settings(host="0.0.0.0")) as room:
        with pytest.raises(SandboxRequired):
            await in_sandbox(room, "")
        done = await room.run(["true"], cwd=room.files, timeout=MINUTE, is_ours=True)
    assert done.returncode == 0


async def test_the_sandbox_shows_only_what_is_needed(boxed: Settings, tmp_path: Path, below: str) -> None:
    (tmp_path / "secret").touch()
    program = f"""
import os, pathlib, socket
pathlib.Path("written").touch()
pathlib.Path({str(below and "../../")!r} + "at-the-top").touch()
pathlib.Path(os.environ["TMPDIR"], "report.xml").touch()
assert not pathlib.Path({str(tmp_path / "secret")!r}).exists()
assert not pathlib.Path({str(ROOT / "docker-compose.yml")!r}).exists()
assert {os.getpid()} not in map(int, filter(str.isdigit, os.listdir("/proc")))
assert [name for _, name in socket.if_nameindex()] == ["lo"]
try:
    pathlib.Path("/etc/written").touch()
except OSError:
    print("enclosed")
"""
    async with project_room(boxed) as room:
        done = await in_sandbox(room, program, below)
        assert done.stdout == b"enclosed\n", done.stderr
        assert (room.temporary / "report.xml").exists()
        assert (room.files / below / "written").exists() and (room.files / "at-the-top").exists()


POWERS = """
import os, pathlib
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":" in line)
print(os.getuid(), *(status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "NoNewPrivs")))
for file in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/etc/passwd"):
    assert not os.access(file, os.W_OK), file
for file in ("/etc/shadow", "/proc/1/environ", "/proc/1/mem"):
    try:
        open(file, "rb").read(1)
        raise SystemExit(file)
    except OSError:
        pass
try:
    os.setuid(0)
    print("root again")
except OSError:
    print("nobody")
"""


@ROOT_ALONE
async def test_root_is_an_ordinary_user_in_the_sandbox(boxed: Settings) -> None:
    async with project_room(boxed) as room:
        done = await in_sandbox(room, POWERS)
    none = "0" * 16
    assert done.stdout.decode() == f"{SANDBOX_USER} {none} {none} {none} 1\nnobody\n", done.stderr


@ROOT_ALONE
@pytest.mark.parametrize("below", ["", "pkg/inner"])
async def test_the_copy_belongs_to_that_user(boxed: Settings, below: str) -> None:
    """Files that root copied, also such as only their owner may touch."""
    async with project_room(boxed) as room:
        inside = room.files / "private"
        inside.mkdir(mode=0o700, parents=True)
        (inside / "mine").write_text("kept")
        (inside / "link").symlink_to("/etc/shadow")
        (inside / "mine").chmod(0o600)
        owner = Path("/etc/shadow").stat().st_uid
        cwd = room.files / below / "cwd"
        cwd.mkdir(parents=True)
        program = (
            f"import pathlib; p = pathlib.Path({str(inside / 'mine')!r}); p.write_text(p.read_text() + ' and changed')"
        )
        done = await room.run([sys.executable, "-c", program], cwd=cwd, timeout=MINUTE)
        assert (done.returncode, (inside / "mine").read_text()) == (0, "kept and changed"), done.stderr
        assert Path("/etc/shadow").stat().st_uid == owner


@ROOT_ALONE
@pytest.mark.parametrize(
    "prefix", ["env", "env --", "setpriv --no-new-privs", "unshare --pid --fork", "nice -n 1", "false"]
)
async def test_a_prefix_that_is_no_sandbox_is_refused_to_root(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what the worker does to make root an ordinary user has no effect."""
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(rooms, "dropping_root", list)
    async with project_room(Settings(sandbox=prefix)) as room:
        with pytest.raises(SandboxRequired, match="the worker is root"):
            await in_sandbox(room, "")


@ROOT_ALONE
async def test_without_setpriv_root_is_told_what_to_install(boxed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_checked", set())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    async with project_room(boxed) as room:
        with pytest.raises(SandboxRequired, match="install it"):
            await in_sandbox(room, "")


@ROOT_ALONE
def test_an_ordinary_user_has_no_powers_in_the_sandbox(tmp_path: Path) -> None:
    prefix = shlex.split(sandbox())
    if not prefix:
        pytest.skip(NO_SANDBOX)
    program = "cat /proc/self/status | grep CapEff; echo x 2>/dev/null >/proc/sys/kernel/hostname || echo enclosed"
    script = tmp_path / "sandbox"  # which that user can read, unlike our own directory
    shutil.copy(ROOT / "scripts" / "sandbox", script)
    room = tmp_path / "room"
    (room / "tmp").mkdir(parents=True)
    for place in (script, room, room / "tmp", *tmp_path.parents[:3], tmp_path):
        if place != Path("/tmp"):
            place.chmod(0o755)
    for place in (room, room / "tmp"):
        os.chown(place, SANDBOX_USER, SANDBOX_USER)
    user = ["setpriv", f"--reuid={SANDBOX_USER}", f"--regid={SANDBOX_USER}", "--clear-groups"]
    environment = {"PATH": f"{os.defpath}:/usr/sbin", "TMPDIR": str(room / "tmp")}
    done = subprocess.run(
        [*user, str(script), "sh", "-c", program],
        cwd=room, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No permissions to create new namespace" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("ordinary users may not make namespaces here")
    assert done.stdout == f"CapEff:\t{'0' * 16}\nenclosed\n", done.stderr
