"""Which files of a project are left out: what git would ignore, and what no project means to keep."""

import os
import re
import time
from dataclasses import dataclass, field

from pathspec import GitIgnoreSpec

from workers.reading.files import LeftOut, NotRead, read_regular

MAX_IGNORE_FILE_BYTES = 1024 * 1024
MAX_STARS = 3
"""In one part of a pattern. A name takes Python's regular expressions up to its length to this power of steps."""
MAX_DOUBLE_STARS = 2
MAX_SECONDS = 5.0
"""Of CPU time for all questions to one ignore file; then its rules are left aside."""

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


@dataclass
class Level:
    """An ignore file's rules, for the paths below the directory `below` ("" or "some/dir/")."""

    below: str
    spec: GitIgnoreSpec
    seconds: float = 0.0

    def verdict(self, path: str) -> bool | None:
        """None if no rule says anything, or if the rules have taken too much time already."""
        if self.seconds > MAX_SECONDS:
            return None
        started = time.process_time()
        verdict = self.spec.check_file(path[len(self.below) :]).include
        self.seconds += time.process_time() - started
        return verdict


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules in force in one directory, the strongest last; paths are relative to the repository's top.

    What was not understood or took too long goes to `left_out`, by the file's path.
    """

    left_out: LeftOut
    levels: tuple[Level, ...] = field(default=(Level("", DEFAULTS),))

    def with_file(self, name: str, *, at: int | None, below: str) -> "IgnoreRules":
        """Adds the rules of the file `name`, in the directory `at`, if there is one."""
        try:
            content = read_regular(name, at=at, limit=MAX_IGNORE_FILE_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return self
        except (NotRead, OSError):  # git does not follow a link here either
            self.left_out.add(below + name, "its rules do not count: it is no file, or too large")
            return self
        lines = [line.removesuffix("\r") for line in os.fsdecode(content).removeprefix("\ufeff").split("\n")]
        kept = [_collapsed(line) for line in lines if _is_simple(line)]
        if len(kept) < len(lines):
            left = len(lines) - len(kept)
            self.left_out.add(below + name, f"{left} of its rules do not count: they have too many stars")
        return IgnoreRules(self.left_out, (*self.levels, Level(below, _compile(kept)))) if kept else self

    def ignore(self, path: str, *, is_directory: bool) -> bool:
        """Decides as git does: the last matching line of the deepest file counts. Parents must have been asked."""
        asked = f"{path}/" if is_directory else path
        for level in reversed(self.levels):
            verdict = level.verdict(asked)
            if level.seconds > MAX_SECONDS:
                self.left_out.add(f"{level.below}.gitignore", "its rules do not count: they take too long")
            if verdict is not None:
                return verdict
        return False


def _is_simple(line: str) -> bool:
    parts = _collapsed(line).rstrip().split("/")
    return parts.count("**") <= MAX_DOUBLE_STARS and all(part.count("*") <= MAX_STARS for part in parts if part != "**")


def _collapsed(line: str) -> str:
    """Stars in a row that are not a whole part are one star, in git, too."""
    if "\\" in line or "**" not in line:
        return line
    return "/".join(part if part.strip("!") == "**" else re.sub(r"\*+", "*", part) for part in line.split("/"))


def _compile(lines: list[str]) -> GitIgnoreSpec:
    """Lines that are no valid pattern match nothing, as in git."""
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error, OverflowError, RecursionError):
        return GitIgnoreSpec.from_lines(line for line in lines if _is_valid(line))


def _is_valid(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error, OverflowError, RecursionError):
        return False
    return True
