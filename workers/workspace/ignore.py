"""Which files of a project are left out: what git would ignore, and what no project means to keep."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

MAX_IGNORE_FILE_BYTES = 1024 * 1024

DEFAULTS = GitIgnoreSpec.from_lines(
    [
        "__pycache__/",
        "*.py[co]",
        ".mypy_cache/",
        ".pytest_cache/",
        ".ruff_cache/",
        ".hypothesis/",
        ".tox/",
        ".nox/",
        ".venv/",
        "node_modules/",
        ".hg/",
        ".svn/",
        ".DS_Store",
    ]
)
"""The weakest rules: a .gitignore may take them back, and a tracked file is kept in any case."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules in force in one directory, the strongest last; paths are relative to the repository's top."""

    levels: tuple[tuple[str, GitIgnoreSpec], ...] = field(default=(("", DEFAULTS),))

    def with_file(self, file: Path, *, below: str) -> "IgnoreRules":
        """Adds an ignore file's rules for the paths below the directory `below` ("" or "some/dir/")."""
        lines = _lines(file)
        return IgnoreRules((*self.levels, (below, _compile(lines)))) if lines else self

    def ignore(self, path: str, *, is_directory: bool) -> bool:
        """Decides as git does: the last matching line of the deepest file counts. Parents must have been asked."""
        for below, spec in reversed(self.levels):
            relative = path[len(below) :] + ("/" if is_directory else "")
            verdict = spec.check_file(relative).include
            if verdict is not None:
                return verdict
        return False


def _lines(file: Path) -> list[str]:
    """Nothing if it is missing, a link (git does not follow those either) or absurdly large."""
    try:
        facts = file.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_IGNORE_FILE_BYTES:
            return []
        return os.fsdecode(file.read_bytes()).removeprefix("\ufeff").splitlines()
    except OSError:
        return []


def _compile(lines: list[str]) -> GitIgnoreSpec:
    """Lines that are no valid pattern match nothing, as in git."""
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines(line for line in lines if _is_valid(line))


def _is_valid(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
