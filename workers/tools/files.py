"""Walking a worktree without leaving it."""

import os
from collections.abc import Iterator
from pathlib import Path


def project_files(worktree: Path) -> Iterator[Path]:
    """All files, and links to files, that lie inside; in a stable order."""
    for directory, subdirectories, names in os.walk(worktree):
        subdirectories.sort()
        for name in sorted(names):
            file = Path(directory, name)
            if file.is_file() and not leaves(file, worktree):
                yield file


def links_that_leave(worktree: Path) -> list[Path]:
    """Links to somewhere outside; nothing may be read or written through them."""
    found = []
    for directory, subdirectories, names in os.walk(worktree):
        found += [Path(directory, name) for name in [*subdirectories, *names]]
    return sorted(file for file in found if leaves(file, worktree))


def shown(name: str) -> str:
    """Writes a name as an event can hold it: a file's name is any bytes, of which some are no text."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def leaves(file: Path, worktree: Path) -> bool:
    return file.is_symlink() and not file.resolve().is_relative_to(worktree.resolve())
