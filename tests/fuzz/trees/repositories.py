"""What `.git` can be besides a repository."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

Plant = Callable[[Path, Random], None]


def pointing(*targets: bytes) -> Plant:
    def plant(project: Path, random: Random) -> None:
        (project / ".git").write_bytes(random.choice(targets))

    return plant


def ordinary(project: Path, random: Random) -> None:
    """A repository in whose index stands what git would add of the project, and what it would not."""
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    if random.random() < 0.5:
        subprocess.run(["git", "add", "--", "a.py"], cwd=project, check=False, capture_output=True)
    _spoil_index(project / ".git" / "index", random)


def _spoil_index(index: Path, random: Random) -> None:
    if not index.exists():
        return
    content = index.read_bytes()[:-20]
    match random.randrange(4):
        case 0:  # another name of the same length, and a right digest
            name = random.choice([b"../a", b".git", b"/a.p", b"a/..", b"a\nb\xff"[:4]])
            content = content.replace(b"a.py", name)
        case 1:
            content = bytes(random.choice([byte, 0, 255]) if random.random() < 0.02 else byte for byte in content)
        case 2:
            content = content[: random.randrange(len(content))]
    index.write_bytes(content + hashlib.sha1(content, usedforsecurity=False).digest())


def with_odd(*names: str) -> Plant:
    """A repository of which one file is a pipe, a link without end, a directory, or very long."""

    def plant(project: Path, random: Random) -> None:
        git = project / ".git"
        for directory in (git, git / "info", git / "objects", git / "refs"):
            directory.mkdir()
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        place = git / random.choice(names)
        place.unlink(missing_ok=True)
        match random.randrange(5):
            case 0:
                os.mkfifo(place)
            case 1:
                place.symlink_to("/dev/zero")
            case 2:
                place.symlink_to(place.name)
            case 3:
                place.mkdir()
            case _:
                with place.open("wb") as file:
                    file.write(b"DIRC" + b"\0\xff*" * 5000)
                    file.truncate(random.choice([20_000, 2**33]))

    return plant


def empty(project: Path, random: Random) -> None:
    (project / ".git").mkdir()


def special(project: Path, random: Random) -> None:
    if random.random() < 0.5:
        os.mkfifo(project / ".git")
    else:
        (project / ".git").symlink_to(random.choice([".git", "/dev/zero", ".", "/"]))


PLANTS: tuple[Plant, ...] = (
    pointing(b"gitdir: .", b"gitdir: .git", b"gitdir: ../../..", b"gitdir: /", b"gitdir: /dev/zero"),
    pointing(b"gitdir: \0", b"gitdir: \xff\n", b"gitdir: " + b"a/" * 10_000, b"x" * 100_000, b"", b"\n" * 5000),
    ordinary,
    ordinary,
    with_odd("index", "commondir", "info/exclude", "HEAD", "sharedindex.aa", "config"),
    empty,
    special,
)
