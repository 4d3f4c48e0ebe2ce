"""Links of a worktree, and what can be written of texts."""

import os
from pathlib import Path

from workers.reading.files import Walk


def links_that_leave(worktree: Path) -> list[Path]:
    """Links to somewhere outside; nothing may be read or written through them."""
    links = [worktree / found.path for found in Walk(str(worktree)) if found.is_link]
    return [link for link in links if leaves(link, worktree)]


def leaves(file: Path, worktree: Path) -> bool:
    """Of a loop of links, too, nothing is inside."""
    if not file.is_symlink():
        return False
    end = Path(os.path.realpath(file))
    return end.is_symlink() or not end.is_relative_to(worktree.resolve())


def shown(text: str) -> str:
    """Writes a text as an event can hold it."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
