"""Reading a user's project as it lies on disk, without running anything in it and without changing it."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.errors import BadPath, GitFailed
from workers.workspace.git import Git
from workers.workspace.ignore import IgnoreRules

log = structlog.get_logger()

CONFIGURATION = ("pyproject.toml", "ruff.toml", ".ruff.toml")
"""What a project below the top of its repository inherits from the directories above it."""

FILE, EXECUTABLE, LINK = "100644", "100755", "120000"  # git's modes


@dataclass(frozen=True, slots=True)
class Limits:
    max_files: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """A directory of the user's, and the git repository that it lies in, if any. Links are resolved."""

    directory: Path
    top: Path
    gitdir: Path | None

    @property
    def prefix(self) -> str:
        """The way from the top of the repository to the directory: "" or "some/dir/"."""
        relative = self.directory.relative_to(self.top).as_posix()
        return "" if relative == "." else f"{relative}/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a link; `path` is relative to the top of the repository."""

    path: str
    mode: str
    size: int


def find_source(path: str, allowed: tuple[Path, ...]) -> Source:
    """Raises BadPath for what is no directory, cannot be read or lies outside of `allowed`."""
    try:
        directory = Path(path).expanduser()
        if not directory.is_absolute():
            raise BadPath(f"{path!r} is not an absolute path.")
        directory = directory.resolve(strict=True)
        if not directory.is_dir():
            raise BadPath(f"{path} is not a directory.")
    except FileNotFoundError:
        raise BadPath(f"{path} does not exist on the worker's machine.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise BadPath(f"{path!r} cannot be used as a directory: {error}") from error
    if not any(directory.is_relative_to(root.resolve()) for root in allowed):
        where = ", ".join(map(str, allowed)) or "nowhere (set STELLWERK_PATHS)"
        raise BadPath(f"{path} is not below a directory that this deployment allows: {where}.")
    for candidate in (directory, *directory.parents):
        gitdir = _gitdir(candidate / ".git")
        if gitdir:
            return Source(directory, candidate, gitdir)
    return Source(directory, directory, None)


def _gitdir(dot_git: Path) -> Path | None:
    """Finds the gitdir of a repository, a linked worktree or a submodule, by looking at files only."""
    try:
        if dot_git.is_file():
            target = os.fsdecode(dot_git.read_bytes()[:4096]).removeprefix("gitdir:").strip()
            dot_git = (dot_git.parent / target).resolve()
        return dot_git if (dot_git / "HEAD").exists() else None
    except OSError:
        return None


def read_source(source: Source, limits: Limits) -> list[Entry]:
    """All files and links of the project that are tracked or not ignored, and inherited configuration.

    Raises BadPath for a project that is too large or cannot be read.
    """
    found: dict[str, Entry] = {}
    size = 0
    for entry in _walk_all(source):
        if entry.path in found:
            continue
        found[entry.path] = entry
        size += entry.size
        if len(found) > limits.max_files:
            raise BadPath(
                f"{source.directory} holds more than {limits.max_files:,} files that git does not ignore; "
                "ignore what is not part of the project, or raise STELLWERK_MAX_PROJECT_FILES."
            )
        if size > limits.max_bytes:
            raise BadPath(
                f"{source.directory} holds more than {limits.max_bytes:,} bytes that git does not ignore; "
                "ignore what is not part of the project, or raise STELLWERK_MAX_PROJECT_BYTES."
            )
    return sorted(found.values(), key=lambda entry: entry.path)


def _walk_all(source: Source) -> Iterator[Entry]:
    yield from _inherited(source)
    try:
        yield from _walk(source)
    except OSError as error:
        raise BadPath(f"{error.filename} cannot be read: {error.strerror}.") from error
    yield from _tracked(source)


def _inherited(source: Source) -> Iterator[Entry]:
    directory = source.directory
    while directory != source.top:
        directory = directory.parent
        for name in CONFIGURATION:
            entry = _entry(directory / name, (directory / name).relative_to(source.top).as_posix())
            if entry:
                yield entry


def _walk(source: Source) -> Iterator[Entry]:
    pending = [(source.directory, source.prefix, _rules_above(source))]
    while pending:
        directory, below, rules = pending.pop()
        # Without git a .gitignore means nothing: source distributions ship one together with what it names.
        if source.gitdir:
            rules = rules.with_file(directory / ".gitignore", below=below)
        with os.scandir(directory) as children:
            for child in children:
                path = below + child.name
                is_directory = child.is_dir(follow_symlinks=False)
                if child.name.lower() == ".git" or rules.ignore(path, is_directory=is_directory):
                    continue
                if is_directory:
                    if not (Path(child.path) / "pyvenv.cfg").exists():
                        pending.append((Path(child.path), f"{path}/", rules))
                elif entry := _entry(Path(child.path), path):
                    yield entry


def _rules_above(source: Source) -> IgnoreRules:
    """What the repository says above the directory, unless that ignores the very directory the user named."""
    rules = IgnoreRules()
    if source.gitdir is None:
        return rules
    rules = rules.with_file(_common_gitdir(source.gitdir) / "info" / "exclude", below="")
    below = ""
    for part in Path(source.prefix).parts:
        rules = rules.with_file(source.top / below / ".gitignore", below=below)
        if rules.ignore(below + part, is_directory=True):
            return IgnoreRules()
        below += f"{part}/"
    return rules


def _common_gitdir(gitdir: Path) -> Path:
    """The directory in which a linked worktree keeps what it shares with its main repository."""
    try:
        return (gitdir / os.fsdecode((gitdir / "commondir").read_bytes()).strip()).resolve()
    except OSError:
        return gitdir


def _tracked(source: Source) -> Iterator[Entry]:
    """What the repository's index names, ignored or not; read from a copy by a repository of ours."""
    if source.gitdir is None:
        return
    with tempfile.TemporaryDirectory(prefix="stellwerk-index-") as directory:
        git = Git(Path(directory))
        git.run("init", "--quiet", "--bare")
        try:
            for file in (source.gitdir / "index", *_common_gitdir(source.gitdir).glob("sharedindex.*")):
                shutil.copyfile(file, git.gitdir / file.name)
            paths = git.paths("ls-files", "-z", "--cached")
        except FileNotFoundError:
            return
        except (OSError, GitFailed) as error:
            # such as an index of SHA-256 names; only files that are tracked and ignored at once are missed
            log.warning("cannot read the repository's index", repository=str(source.top), error=str(error))
            return
    for path in paths:
        file = source.top / path
        inside = path.startswith(source.prefix) and file.parent.resolve() == file.parent
        entry = _entry(file, path) if inside else None
        if entry:
            yield entry


def _entry(file: Path, path: str) -> Entry | None:
    """None for what is not there and for what git cannot hold (sockets, devices, pipes)."""
    try:
        facts = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(facts.st_mode):
        # git refuses a .gitmodules that is a link
        return None if file.name.lower() == ".gitmodules" else Entry(path, LINK, facts.st_size)
    if not stat.S_ISREG(facts.st_mode):
        return None
    return Entry(path, EXECUTABLE if facts.st_mode & stat.S_IXUSR else FILE, facts.st_size)
