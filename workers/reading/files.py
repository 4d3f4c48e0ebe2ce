"""Files of a project, which may change while they are read: no link is followed, and only regular files are opened."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

MAX_DEPTH = 200
"""Directories in a row. Much of Python's own library, and so of a project's tools, recurses over them."""
MAX_PATH_BYTES = 3000
"""Of a path within a project: with that of a workspace before it, it must stay below the kernel's 4096."""

MAX_NAMED, MAX_SAID = 50, 3
MAX_NAME = 200
"""Characters of a name in what people read."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CONTENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not be waited for


class NotRead(Exception):
    """Why a file was left out, as it can stand after its name."""


def shown_name(name: str) -> str:
    """Writes a name as an event and a terminal can hold it: a file's name is any bytes, of which some are no text,
    some begin a new line, and some make what follows them look like something else."""
    return "".join(map(_shown, name)) if not name.isascii() or not name.isprintable() else name


def _shown(character: str) -> str:
    if character == "\0":
        return "\\0"
    if character.isprintable() or character in "\u200d\u200c":  # which join and divide letters in many scripts
        return character
    return character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]


@dataclass
class LeftOut:
    """What of a project was left out: how many files, and the first of them as they can be shown, each with why."""

    count: int = 0
    named: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, why: str) -> None:
        name = shown_name(path[:MAX_PATH_BYTES])[:MAX_NAME]
        if name not in self.named:
            self.count += 1
            if len(self.named) < MAX_NAMED:
                self.named[name] = why

    def sentence(self) -> str:
        said = [f"{name} ({why})" for name, why in islice(self.named.items(), MAX_SAID)]
        return "; ".join(said) + (f"; and {self.count - MAX_SAID} more" if self.count > MAX_SAID else "")


def reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def open_regular(name: str, *, at: int | None = None) -> int:
    """A descriptor of a regular file. Raises NotRead for anything else, and OSError."""
    descriptor = os.open(name, CONTENT, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRead("it is no regular file")
    return descriptor


def read_regular(name: str, *, at: int | None = None, limit: int) -> bytes:
    """The content. Raises NotRead for what is no regular file or has more bytes than `limit`, and OSError."""
    with os.fdopen(open_regular(name, at=at), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise NotRead(f"it has more than {limit:,} bytes")
    return content


@dataclass(frozen=True, slots=True)
class Found:
    """A name in a directory; `path` is relative to the top of the walk, and `at` is the directory while the walk is
    there."""

    path: str
    name: str
    at: int
    facts: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.facts.st_mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.facts.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.facts.st_mode)


@dataclass
class Walk:
    """All that lies below a directory, sorted, each directory before what is in it.

    The caller may `skip` a directory that it was just given. What could not be looked into goes to `left_out`, with
    `prefix` before its path.
    """

    top: str
    left_out: LeftOut = field(default_factory=LeftOut)
    prefix: str = ""
    _skipped: bool = False

    def skip(self) -> None:
        self._skipped = True

    def __iter__(self) -> Iterator[Found]:
        """Raises OSError if the directory itself cannot be read."""
        top = os.open(self.top, DIRECTORY)
        levels = [(top, "", iter(sorted(os.listdir(top))))]  # noqa: PTH208 - Path knows no descriptors
        try:
            while levels:
                directory, below, names = levels[-1]
                name = next(names, None)
                if name is None:
                    os.close(levels.pop()[0])
                elif found := self._look(directory, below, name):
                    self._skipped = False
                    yield found
                    if found.is_directory and not self._skipped:
                        self._enter(found, levels)
        finally:
            for directory, _, _ in levels:
                os.close(directory)

    def _look(self, directory: int, below: str, name: str) -> Found | None:
        path = below + name
        if len(os.fsencode(self.prefix + path)) > MAX_PATH_BYTES:
            self.left_out.add(self.prefix + path, "its path is too long")
            return None
        try:
            return Found(path, name, directory, os.stat(name, dir_fd=directory, follow_symlinks=False))
        except FileNotFoundError:  # since the directory was read
            return None
        except OSError as error:
            self.left_out.add(self.prefix + path, reason(error))
            return None

    def _enter(self, found: Found, levels: list[tuple[int, str, Iterator[str]]]) -> None:
        if len(levels) > MAX_DEPTH:
            self.left_out.add(self.prefix + found.path, f"it lies below more than {MAX_DEPTH} directories")
            return
        try:
            inside = os.open(found.name, DIRECTORY, dir_fd=found.at)
        except FileNotFoundError:
            return
        except OSError as error:
            self.left_out.add(self.prefix + found.path, reason(error))
            return
        levels.append((inside, f"{found.path}/", iter(sorted(os.listdir(inside)))))  # noqa: PTH208


@dataclass
class Tree:
    """Files by their path below a directory, of whose parents none may be a link. For paths that come sorted."""

    top: str
    _parent: tuple[str, int] | None = None

    def open(self, path: str) -> int:
        """Raises NotRead, and OSError."""
        parent, _, name = path.rpartition("/")
        return open_regular(name, at=self._directory(parent))

    def readlink(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        return os.readlink(name, dir_fd=self._directory(parent))

    def stat(self, path: str) -> os.stat_result:
        parent, _, name = path.rpartition("/")
        return os.stat(name, dir_fd=self._directory(parent), follow_symlinks=False)

    def close(self) -> None:
        if self._parent:
            os.close(self._parent[1])
            self._parent = None

    def _directory(self, path: str) -> int:
        if self._parent and self._parent[0] == path:
            return self._parent[1]
        self.close()
        directory = os.open(self.top, DIRECTORY)
        for name in filter(None, path.split("/")):
            try:
                inside = os.open(name, DIRECTORY, dir_fd=directory)
            finally:
                os.close(directory)
            directory = inside
        self._parent = (path, directory)
        return directory
