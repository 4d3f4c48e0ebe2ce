"""Workspaces: the git repository in which a session works, made from the user's files as they are on disk."""

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from app.config import Settings
from app.errors import BadPath, GitFailed, WorkspaceConflict, WorkspaceLost
from app.events.encoding import printable
from app.sessions.credentials import Credentials
from workers.children.removal import remove_tree
from workers.reading.files import LeftOut, shown_name
from workers.reading.listing import CONFIGURATION
from workers.workspace.checkout import Checkout, read_left_out, write_left_out
from workers.workspace.git import Git
from workers.workspace.importer import REF, import_entries
from workers.workspace.origin import Origin, clone, set_attributes, take_over
from workers.workspace.project import Limits, find_source, read_source

Made = TypeVar("Made")
REPOSITORY = "repository.git"
PREFIX_FILE = "prefix"
MAX_FILES = 200
"""Names of changed files in a result; the patch has them all."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a session leaves; everything is None or empty when it changed nothing."""

    branch: str | None = None
    patch: bytes | None = None
    patch_path: Path | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """The session's files after a superstep. `result` and `patch` are there once it is the last."""

    base: str | None
    result: Mapping[str, Any] = field(default_factory=dict)
    patch: bytes | None = None


@dataclass(frozen=True, slots=True)
class Workspaces:
    """All workspaces of a machine, or of several that share the directory."""

    root: Path
    limits: Limits
    allowed_paths: tuple[Path, ...]
    clone_protocols: tuple[str, ...] = ("https", "ssh")

    @classmethod
    def configured(cls, settings: Settings) -> "Workspaces":
        anywhere = (Path("/"),) if settings.on_loopback else ()
        return cls(
            settings.workspaces_dir.absolute(),
            Limits(settings.max_project_files, settings.max_project_bytes),
            anywhere if settings.paths is None else settings.paths,
        )

    async def open(
        self,
        session_id: UUID | str,
        *,
        path: str | None = None,
        repo: str | None = None,
        continues: UUID | None = None,
        base: str | None = None,
        credentials: Credentials | None = None,
    ) -> "Workspace":
        """The session's workspace, made from `path` or `repo` (or empty) when it is first opened.

        That of a session that `continues` another one is made from that one's, as of its commit `base` (null: as that
        one was imported). Raises BadPath, which trying again does not help, and WorkspaceLost where the session has
        commits already.
        """
        if base and continues is None and not (self.root / str(session_id)).exists():
            raise _lost(session_id, base)  # made anew from the project it would be another one
        return await asyncio.to_thread(self._open, str(session_id), Origin(path, repo, continues, base, credentials))

    async def merge_steps(
        self,
        session_id: UUID | str,
        commits: Sequence[str],
        *,
        base: str | None,
        is_last: bool,
        path: str | None = None,
        repo: str | None = None,
        continues: UUID | None = None,
        credentials: Credentials | None = None,
    ) -> Merged:
        """Merges a superstep's commits, which start at `base`; with the last one the session's result is made.

        A session without a project has a result only if its steps changed something.
        """
        has_result = is_last and (path or repo or base or commits)
        if not commits and not has_result:
            return Merged(base)
        if commits and not (self.root / str(session_id)).exists():
            raise _lost(session_id, commits[0])
        workspace = await self.open(
            session_id, path=path, repo=repo, continues=continues, base=base, credentials=credentials
        )
        if commits:
            base = await workspace.merge(base or workspace.initial, commits)
        if not has_result:
            return Merged(base)
        finished = await workspace.finish(base or workspace.initial, session=session_id)
        result = {
            "branch": finished.branch,
            "patch": printable(str(finished.patch_path)) if finished.patch_path else None,
            "files": [printable(file) for file in finished.files[:MAX_FILES]],
            "files_changed": len(finished.files),
            "workspace": printable(str(workspace.gitdir)),
        }
        return Merged(base, result, finished.patch)

    def _open(self, session_id: str, origin: Origin) -> "Workspace":
        home = self.root / session_id
        if not home.exists():
            with self._locked(session_id):
                if not home.exists():  # another process may have been quicker
                    self._build(home, origin)
        return Workspace.at(home)

    def _build(self, home: Path, origin: Origin) -> None:
        """Builds in a directory of its own first: one that has the session's name is complete."""
        _shield(self.root)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=self.root) as name:
            building = Path(name) / "workspace"
            building.mkdir()
            git = Git(building / REPOSITORY)
            prefix, left_out = "", LeftOut()
            if parent := self._parent_of(origin):
                prefix, left_out = parent.prefix, read_left_out(parent.home)
                take_over(git, parent.gitdir, origin.base or parent.initial)
            elif origin.repo is not None:
                clone(
                    git,
                    origin.repo,
                    protocols=self.clone_protocols,
                    limits=self.limits,
                    left_out=left_out,
                    credentials=origin.credentials,
                )
            else:
                git.gitdir.mkdir()
                git.run("init", "--quiet", "--bare", "--initial-branch=initial", "--template=")
                set_attributes(git)
                if origin.path is None:
                    import_entries(git, building, [], left_out, max_bytes=0)
                else:
                    source = find_source(origin.path, self.allowed_paths)
                    prefix = source.prefix
                    listed = asyncio.run(read_source(source, self.limits))  # this is a thread, without a loop
                    left_out = listed.left_out
                    import_entries(git, source.top, listed.entries, left_out, max_bytes=self.limits.max_bytes)
            write_left_out(building, left_out)
            (building / PREFIX_FILE).write_bytes(os.fsencode(prefix))
            building.rename(home)

    def _parent_of(self, origin: Origin) -> "Workspace | None":
        """The workspace of the session that is continued; None where that one had no files."""
        if origin.continues is None:
            return None
        home = self.root / str(origin.continues)
        if home.exists():
            return Workspace.at(home)
        if origin.path or origin.repo or origin.base:
            raise BadPath(f"The workspace of session {origin.continues}, which is continued, is not here (any more).")
        return None

    @contextmanager
    def _locked(self, session_id: str) -> Iterator[None]:
        """Locks across threads and processes; the file stays, for removing it would let two hold the lock."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / session_id).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True, slots=True)
class Workspace:
    """One session's repository, with a directory for each attempt's checkout beside it."""

    home: Path
    initial: str
    prefix: str

    @classmethod
    def at(cls, home: Path) -> "Workspace":
        prefix = os.fsdecode((home / PREFIX_FILE).read_bytes())
        return cls(home, Git(home / REPOSITORY).text("rev-parse", "--verify", REF), prefix)

    @property
    def gitdir(self) -> Path:
        return self.home / REPOSITORY

    @property
    def git(self) -> Git:
        return Git(self.gitdir)

    async def checkout(self, base: str, *, step: int, attempt: int) -> Path:
        """A fresh directory with the project's files as of `base`; those of earlier attempts are removed.

        Raises WorkspaceLost.
        """
        return await asyncio.to_thread(self._needing, [base], partial(self._checkout, base, step, attempt))

    async def commit(self, worktree: Path, *, agent: str, message: str) -> str | None:
        """The SHA of a commit on top of the checkout's base; None when nothing changed."""
        return await asyncio.to_thread(Checkout.at(worktree).commit, agent=agent, message=message)

    async def discard(self, worktree: Path) -> None:
        await asyncio.to_thread(Checkout.at(worktree).discard)

    async def merge(self, base: str, commits: Sequence[str]) -> str:
        """One history, in the order given, out of commits that all start at `base`; always with the same SHA.

        Raises WorkspaceConflict, which names the files, and WorkspaceLost.
        """
        return await asyncio.to_thread(self._needing, [base, *commits], partial(self._merge, base, commits))

    async def finish(self, base: str, *, session: UUID | str) -> Finished:
        """Sets the branch `stellwerk/SESSION` to `base` and writes the patch, for `git apply` at the top."""
        return await asyncio.to_thread(self._needing, [base], partial(self._finish, base, str(session)))

    async def remove(self) -> None:
        await asyncio.to_thread(remove_tree, self.home)

    def _needing(self, commits: Sequence[str], work: Callable[[], Made]) -> Made:
        """Raises WorkspaceLost where git fails for want of a commit: looking first would cost every step a process."""
        try:
            return work()
        except GitFailed as error:
            for commit in commits:
                if self.git.run("cat-file", "-e", f"{commit}^{{commit}}", accept=(0, 1, 128)).returncode:
                    raise _lost(self.home.name, commit) from error
            raise

    def _checkout(self, base: str, step: int, attempt: int) -> Path:
        steps = self.home / "steps"
        steps.mkdir(exist_ok=True)
        for leftover in steps.glob(f"{step}-*"):
            remove_tree(leftover)
        home = Path(tempfile.mkdtemp(prefix=f"{step}-{attempt}-", dir=steps))
        checkout = Checkout.create(home, gitdir=self.gitdir, initial=self.initial, base=base, prefix=self.prefix)
        return checkout.worktree

    def _merge(self, base: str, commits: Sequence[str]) -> str:
        merged = base
        for commit in commits:
            merged = commit if merged == base else self._put_on_top(merged, commit)
        return merged

    def _put_on_top(self, merged: str, commit: str) -> str:
        done = self.git.run("merge-tree", "--write-tree", "--name-only", "-z", merged, commit, accept=(0, 1))
        tree, *rest = os.fsdecode(done.stdout).split("\0")
        if done.returncode == 1:
            files = ", ".join(shown_name(file) for file in sorted(set(rest[: rest.index("")])))
            raise WorkspaceConflict(f"Parallel steps changed the same lines of {files}.")
        author, email, when, message = self.git.text(
            "show", "--no-patch", "--format=%an%x00%ae%x00%ad%x00%B", "--date=raw", commit
        ).split("\0")
        identity = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": when}
        # the committer's date is the author's, so that merging again gives the same SHA
        dates = {"GIT_COMMITTER_DATE": when}
        created = self.git.run("commit-tree", tree, "-p", merged, "-m", message, variables=identity | dates)
        return os.fsdecode(created.stdout).strip()

    def _finish(self, base: str, session: str) -> Finished:
        files = self.git.paths("diff-tree", "-r", "--name-only", "--no-renames", "-z", self.initial, base)
        if not files:
            return Finished()
        branch = f"stellwerk/{session}"
        self.git.run("update-ref", f"refs/heads/{branch}", base)
        # no renames: git apply reads them, but other readers of patches do not
        options = ["--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"]
        patch = self.git.run("diff-tree", "-r", "-p", *options, self.initial, base).stdout
        path = self.home / f"{session}.patch"
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(patch)
        unfinished.replace(path)
        return Finished(branch, patch, path, tuple(files))


def _lost(session_id: UUID | str, commit: str) -> WorkspaceLost:
    return WorkspaceLost(
        f"The workspace of session {session_id} lacks the commit {commit[:12]}, which its log names: the database was"
        " restored without the workspaces of its time, or they are on another machine. Put them back, and retry."
    )


def _shield(root: Path) -> None:
    """Ruff looks for configuration upwards: not into a project that the workspaces happen to lie in."""
    if any((parent / name).exists() for parent in root.parents for name in CONFIGURATION):
        (root / "ruff.toml").touch()
