"""Reading a user's project as it lies on disk, without running anything in it and without changing it."""

import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog

from app.config import MIB
from app.errors import BadPath, GitFailed, ToolFailed
from workers.children.guarded import run_guarded
from workers.reading.files import LeftOut, NotRead, open_regular, read_regular
from workers.reading.process import LIMITS, ask
from workers.workspace.git import Git, clean_environment, command

log = structlog.get_logger()

MAX_POINTER_BYTES = 4096
"""Of a file that names a directory of git's."""
MAX_INDEX_BYTES = 128 * MIB
MAX_SHARED = 10
INDEX_TIME_LIMIT = timedelta(minutes=1)


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


class Entry(NamedTuple):
    """A file or a link; `path` is relative to the top of the repository."""

    path: str
    mode: str
    size: int


@dataclass(frozen=True, slots=True)
class Listed:
    entries: list[Entry]
    left_out: LeftOut


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
        if not dot_git.is_dir():
            target = os.fsdecode(_head_of(dot_git)).removeprefix("gitdir:").strip()
            dot_git = Path(os.path.realpath(dot_git.parent / target))
        return dot_git if (dot_git / "HEAD").exists() else None
    except (NotRead, OSError, ValueError):
        return None


def _head_of(file: Path) -> bytes:
    with os.fdopen(open_regular(str(file)), "rb") as content:
        return content.read(MAX_POINTER_BYTES)


async def read_source(source: Source, limits: Limits) -> Listed:
    """All files and links of the project that are tracked or not ignored, and inherited configuration.

    Raises BadPath for a project that is too large or cannot be read.
    """
    request = {
        "directory": str(source.directory),
        "top": str(source.top),
        "prefix": source.prefix,
        "excludes": str(_common_gitdir(source.gitdir) / "info" / "exclude") if source.gitdir else None,
        "max_files": limits.max_files,
        "max_bytes": limits.max_bytes,
    }
    try:
        *entries, end = await ask("listing", request, more=await _tracked(source))
    except ToolFailed as error:
        raise BadPath(f"{source.directory}: {error}.") from error
    if "refused" in end:
        raise BadPath(end["refused"])
    return Listed(sorted(Entry(*entry) for entry in entries), LeftOut(**end))


def _common_gitdir(gitdir: Path) -> Path:
    """The directory in which a linked worktree keeps what it shares with its main repository."""
    try:
        return Path(os.path.realpath(gitdir / os.fsdecode(_head_of(gitdir / "commondir")).strip()))
    except (NotRead, OSError, ValueError):
        return gitdir


async def _tracked(source: Source) -> bytes:
    """What the repository's index names, ignored or not, as git lists it: from a copy, in a repository of ours."""
    if source.gitdir is None:
        return b""
    with tempfile.TemporaryDirectory(prefix="stellwerk-index-") as directory:
        git = Git(Path(directory))
        git.run("init", "--quiet", "--bare")
        try:
            _copy_index(source.gitdir, git.gitdir)
            return await _listed(git)
        except FileNotFoundError:
            return b""
        except (OSError, NotRead, GitFailed) as error:
            # such as an index of SHA-256 names; only files that are tracked and ignored at once are missed
            log.warning("cannot read the repository's index", repository=str(source.top), error=str(error))
            return b""


def _copy_index(gitdir: Path, into: Path) -> None:
    (into / "index").write_bytes(read_regular(str(gitdir / "index"), limit=MAX_INDEX_BYTES))
    for shared in islice(_common_gitdir(gitdir).glob("sharedindex.*"), MAX_SHARED):
        (into / shared.name).write_bytes(read_regular(str(shared), limit=MAX_INDEX_BYTES))


async def _listed(git: Git) -> bytes:
    """git has limits here, too: an index is any bytes."""
    arguments = [f"--git-dir={git.gitdir}", "ls-files", "-z", "--cached"]
    done = await run_guarded(
        command(arguments),
        cwd=git.gitdir,
        env=clean_environment(),
        timeout=INDEX_TIME_LIMIT,
        stdout_limit=MAX_INDEX_BYTES,
        rlimits=LIMITS,
    )
    if done.returncode != 0 or done.timed_out or done.truncated:
        raise GitFailed(f"git ls-files ended with {done.returncode}")
    return done.stdout
