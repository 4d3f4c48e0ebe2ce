"""A repository that a server made up is measured before it is checked out, and what git refuses of it is left out."""

import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from app.errors import BadPath
from workers.workspace.checkout import Checkout
from workers.workspace.project import Limits
from workers.workspace.repository import Workspaces


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, cwd=repository, input=stdin, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    git(directory, "init", "-q", "--bare", "--initial-branch=main")
    return directory


def tree_of(repository: Path, **entries: tuple[str, str]) -> str:
    """By the object's name, without what git's own commands refuse."""
    lines = b"".join(
        f"{mode} {name}".encode() + b"\0" + bytes.fromhex(sha) for name, (mode, sha) in sorted(entries.items())
    )
    return git(repository, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=lines)


def publish(repository: Path, tree: str) -> str:
    commit = git(repository, "commit-tree", tree, "-m", "x")
    git(repository, "update-ref", "refs/heads/main", commit)
    return repository.as_uri()


async def cloned(tmp_path: Path, address: str, limits: Limits) -> Path:
    workspaces = Workspaces(tmp_path / "workspaces", limits, (), ("file",))
    workspace = await workspaces.open(uuid4(), repo=address)
    return await workspace.checkout(workspace.initial, step=1, attempt=1)


async def test_a_few_objects_that_stand_for_endless_files(tmp_path: Path, repository: Path) -> None:
    inner = git(repository, "hash-object", "-w", "--stdin", stdin=b"x")
    mode = "100644"
    for _ in range(12):
        inner = tree_of(repository, **{f"d{number}": (mode, inner) for number in range(10)})
        mode = "40000"
    address = publish(repository, inner)
    with pytest.raises(BadPath, match="holds more than 1,000 files"):
        await cloned(tmp_path, address, Limits(1000, 10**6))


async def test_names_that_git_does_not_check_out(tmp_path: Path, repository: Path) -> None:
    blob = git(repository, "hash-object", "-w", "--stdin", stdin=b"import os\n")
    link = git(repository, "hash-object", "-w", "--stdin", stdin=b"/etc/passwd")
    file = ("100644", blob)
    hooks = tree_of(repository, **{"post-checkout": ("100755", blob)})
    path = "d/" * 250 + "deep.py"
    commit = f"commit refs/heads/deep\ncommitter x <x@example.org> now\ndata 0\nM 100644 {blob} {path}\ndone\n"
    git(repository, "fast-import", "--quiet", "--done", "--date-format=now", stdin=commit.encode())
    deep = ("40000", git(repository, "rev-parse", "refs/heads/deep:d"))
    below = ("40000", tree_of(repository, link=("120000", link), file=file))
    names = {".GIT": ("40000", hooks), ".gitmodules": ("120000", link), ".gitModules": below, "d": deep}
    address = publish(repository, tree_of(repository, **{"a.py": file, "-rf": file, **names}))
    worktree = await cloned(tmp_path, address, Limits(1000, 10**6))
    assert sorted(place.name for place in worktree.iterdir()) == ["-rf", ".gitModules", "a.py"]
    assert [place.name for place in (worktree / ".gitModules").iterdir()] == ["file"]
    assert list(Checkout.at(worktree).left_out().named.values()) == [
        "git does not check out such a name",
        "git does not check out such a name",
        "git does not check out such a name",
        "its path is too long",
    ]
    assert Checkout.at(worktree).changed() == []
