"""Copies of a project for tools that change files: what they changed is brought back, and nothing else."""

import os
from dataclasses import dataclass
from pathlib import Path

from workers.reading.files import Walk, open_regular
from workers.tools.files import links_that_leave
from workers.workspace.checkout import Checkout


@dataclass(frozen=True, slots=True)
class ProjectCopy:
    """`worktree` is where the project lies in the copy, `original` where it lies in the session's checkout."""

    original: Path
    worktree: Path

    @classmethod
    def make(cls, worktree: Path, directory: Path) -> "ProjectCopy":
        """Without links to somewhere outside, since a tool would read and write through them."""
        copy = Checkout.at(worktree).copy_to(directory).resolve()
        for link in links_that_leave(copy):
            link.unlink()
        return cls(worktree, copy)

    def relative(self, file: str) -> str:
        return Path(file).relative_to(self.worktree).as_posix()

    def bring_back(self) -> None:
        """Writes the files that differ into the original, where they are regular files, too."""
        for found in Walk(str(self.worktree)):
            if not found.is_regular:
                continue
            changed, stands = self.worktree / found.path, self.original / found.path
            if _differ(changed.lstat(), stands.lstat()):
                os.close(open_regular(str(stands)))
                stands.write_bytes(changed.read_bytes())


def _differ(one: os.stat_result, other: os.stat_result) -> bool:
    """A copy has the times of what it was made of."""
    return (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns)
