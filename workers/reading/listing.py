"""All files and links of a project that are tracked or not ignored, without running anything in it."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workers.reading.files import MAX_DEPTH, MAX_PATH_BYTES, Found, LeftOut, Tree, Walk, reason
from workers.reading.ignore import IgnoreRules

CONFIGURATION = ("pyproject.toml", "ruff.toml", ".ruff.toml")
"""What a project below the top of its repository inherits from the directories above it."""

NOT_NAMES = frozenset({"", ".", "..", ".git"})

FILE, EXECUTABLE, LINK = "100644", "100755", "120000"  # git's modes


def is_no_name(path: str, *, is_link: bool = False) -> bool:
    """Whether git checks out no such path, in whatever case, though it can stand in a made-up index or tree.

    The rules are those of verify_path in git's read-cache.c: of `.gitmodules` it refuses links, and those below it.
    """
    parts = frozenset(path.lower().split("/"))
    return not NOT_NAMES.isdisjoint(parts) or (is_link and ".gitmodules" in parts)


def answer(request: Mapping[str, Any]) -> Iterator[Any]:
    """Each entry as its path, mode and size; then what was left out, or why there is no end."""
    listing = Listing(**request, tracked=sys.stdin.buffer.read())
    try:
        yield from listing.entries()
    except TooLargeError as error:
        yield {"refused": str(error)}
    except OSError as error:
        yield {"refused": f"{error.filename or listing.directory} cannot be read: {error.strerror}."}
    else:
        yield asdict(listing.left_out)


class TooLargeError(Exception):
    """More than the limits allow."""


@dataclass
class Listing:
    """`excludes` is the repository's file of that name (None without git), `tracked` what its index names."""

    directory: str
    top: str
    prefix: str
    excludes: str | None
    max_files: int
    max_bytes: int
    tracked: bytes
    left_out: LeftOut = field(default_factory=LeftOut)

    def entries(self) -> Iterator[tuple[str, str, int]]:
        """Raises TooLargeError, and OSError for a directory that cannot be read."""
        seen: set[str] = set()
        size = 0
        for path, facts in self._all():
            mode = self._mode(path, facts)
            if path in seen or mode is None:
                continue
            seen.add(path)
            size += facts.st_size
            if len(seen) > self.max_files:
                raise TooLargeError(self._too_large(f"{self.max_files:,} files", "FILES"))
            if size > self.max_bytes:
                raise TooLargeError(self._too_large(f"{self.max_bytes:,} bytes", "BYTES"))
            yield path, mode, facts.st_size

    def _too_large(self, limit: str, setting: str) -> str:
        return (
            f"{self.directory} holds more than {limit} that git does not ignore; "
            f"ignore what is not part of the project, or raise STELLWERK_MAX_PROJECT_{setting}."
        )

    def _all(self) -> Iterator[tuple[str, os.stat_result]]:
        tree = Tree(self.top)
        yield from self._named(tree, self._inherited())
        yield from self._walk()
        yield from self._named(tree, self._listed_in_index())
        tree.close()

    def _named(self, tree: Tree, paths: Iterator[str]) -> Iterator[tuple[str, os.stat_result]]:
        """Those that are there, with no link on the way to them."""
        for path in paths:
            try:
                yield path, tree.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.left_out.add(path, reason(error))

    def _inherited(self) -> Iterator[str]:
        parts = self.prefix.split("/")[:-1]
        for depth in range(len(parts)):
            for name in CONFIGURATION:
                yield "/".join([*parts[:depth], name])

    def _listed_in_index(self) -> Iterator[str]:
        """Ignored or not."""
        for raw in self.tracked.split(b"\0"):
            path = os.fsdecode(raw)
            if not path.startswith(self.prefix) or is_no_name(path):
                continue
            if len(raw) > MAX_PATH_BYTES or path.count("/") > MAX_DEPTH:
                self.left_out.add(path, "its path is too long")
            else:
                yield path

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        walk = Walk(self.directory, self.left_out, self.prefix)
        rules: dict[str, IgnoreRules] = {}
        for found in walk:
            path = self.prefix + found.path
            parent = found.path.rpartition("/")[0]
            if parent not in rules:
                above = rules[parent.rpartition("/")[0]] if parent else self._rules_above()
                rules[parent] = self._with_own(above, parent, found.at)
            if found.name.lower() == ".git" or rules[parent].ignore(path, is_directory=found.is_directory):
                walk.skip()
            elif not found.is_directory:
                yield path, found.facts
            elif _is_environment(found):
                walk.skip()

    def _with_own(self, rules: IgnoreRules, directory: str, at: int) -> IgnoreRules:
        # Without git a .gitignore means nothing: source distributions ship one together with what it names.
        if self.excludes is None:
            return rules
        return rules.with_file(".gitignore", at=at, below=f"{self.prefix}{directory}/" if directory else self.prefix)

    def _rules_above(self) -> IgnoreRules:
        """What the repository says above the directory, unless that ignores the very directory the user named."""
        rules = IgnoreRules(self.left_out)
        if self.excludes is None:
            return rules
        rules = rules.with_file(self.excludes, at=None, below="")
        below = ""
        for part in self.prefix.split("/")[:-1]:
            rules = rules.with_file(f"{self.top}/{below}.gitignore", at=None, below=below)
            if rules.ignore(below + part, is_directory=True):
                return IgnoreRules(self.left_out)
            below += f"{part}/"
        return rules

    def _mode(self, path: str, facts: os.stat_result) -> str | None:
        """None for what git cannot hold (sockets, devices, pipes)."""
        if stat.S_ISLNK(facts.st_mode):
            return None if is_no_name(path, is_link=True) else LINK
        if not stat.S_ISREG(facts.st_mode):
            return None
        return EXECUTABLE if facts.st_mode & stat.S_IXUSR else FILE


def _is_environment(found: Found) -> bool:
    """A virtual environment of Python."""
    try:
        os.stat(f"{found.name}/pyvenv.cfg", dir_fd=found.at, follow_symlinks=False)
    except OSError:
        return False
    return True
