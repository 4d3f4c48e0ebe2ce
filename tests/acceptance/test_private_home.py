"""A home after a run: other users of the machine read nothing in it, list nothing and hold no lock."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.embedded.home import NOBODY
from tests.stacks import STELLWERK, environment
from tests.surroundings import optional_program

ANOTHER = 65533


def as_user(uid: int) -> list[str]:
    """A prefix; the user may read what root's Python consists of, and is ordinary otherwise."""
    if uid == os.geteuid():
        return []
    setpriv = optional_program("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed: it comes with util-linux")
    capability = "+dac_read_search"
    return [
        *(setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}"),
    ]


def stellwerk(uid: int, home: Path, *arguments: str) -> None:
    done = subprocess.run(
        [*as_user(uid), STELLWERK, *arguments],
        env=environment(home) | {"HOME": str(home.parent)},
        cwd="/",
        umask=0o022,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def of_a_careless_version(home: Path, uid: int) -> None:
    """As a home was before, under a shell's usual umask."""
    home.mkdir()
    for name in ("logs", "workspaces", "valkey"):
        (home / name).mkdir()
        (home / name).chmod(0o755)
    for name in ("stack.lock", "run.lock", "logs/worker.log"):
        (home / name).touch()
        (home / name).chmod(0o644)
    home.chmod(0o755)
    for path in (home, *home.rglob("*")):
        os.chown(path, uid, uid)


def open_to_others(home: Path) -> Iterator[tuple[str, str]]:
    """What others may do anything with; Postgres' own files lie behind a directory that only it may enter."""
    for directory, directories, files in os.walk(home):
        for path in (Path(directory), *(Path(directory) / name for name in files)):
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o077:
                yield str(path.relative_to(home)), oct(stat.S_IMODE(mode))
        if Path(directory) == home / "postgres":
            assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700
            directories.remove("data")


USERS = [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


@pytest.mark.parametrize("uid", USERS)
def test_a_home_after_a_run_is_its_owners_alone(home: Path, uid: int) -> None:
    home.chmod(0o755)
    place = home / "home"
    of_a_careless_version(place, uid)
    os.chown(home, uid, uid)
    stellwerk(uid, place, "run", "--keep")
    try:
        # Root's Postgres is nobody, who passes by its group and looks at nothing.
        passed = [(".", "0o710"), ("postgres", "0o710")] if uid == 0 else []
        assert sorted(open_to_others(place)) == passed
        if os.geteuid() == 0:
            others_are_kept_out(place)
        if uid != 0:
            assert hidden(place) == {"worker", "gateway", "up"}
    finally:
        stellwerk(uid, place, "down")


def others_are_kept_out(home: Path) -> None:
    (workspace,) = (path for path in (home / "workspaces").iterdir() if not path.name.startswith("."))
    for uid in (ANOTHER, NOBODY):
        if uid == home.stat().st_uid:
            continue
        commands: list[list[str | Path]] = [
            ["ls", home],
            ["ls", workspace],
            ["cat", home / "gateway.json"],
            ["cat", next(workspace.glob("*.patch"))],
            ["cat", home / "logs" / "worker.log"],
            ["sh", "-c", f"exec 9<'{home}/stack.lock'"],  # what cannot be opened cannot be locked
            ["sh", "-c", f"exec 9<'{home}/run.lock'"],
        ]
        for command in commands:
            done = subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
            assert done.returncode != 0 and b"denied" in done.stderr, (uid, command)


def hidden(home: Path) -> set[str]:
    """Processes of the stack into whose environment and memory no other one of their account looks."""
    found, mark = set(), f"STELLWERK_STACK={home}"
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        kind = {"worker": "worker", "app.gateway": "gateway", "up": "up"}
        if (mark in command or command[-1:] == ["up"]) and Path(f"/proc/{process.pid}/environ").stat().st_uid == 0:
            found |= {name for word, name in kind.items() if word in command}
    return found
