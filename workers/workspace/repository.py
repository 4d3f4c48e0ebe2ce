"""Workspaces: the git repository in which a session works, made from the user's files as they are on disk."""

import asyncio
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from app.config import Settings
from app.errors import BadPath, GitFailed, WorkspaceConflict
from app.events.encoding import printable
from workers.workspace.checkout import Checkout
from workers.workspace.git import ATTRIBUTES, Git, clean_environment, execute
from workers.workspace.importer import REF, import_entries
from workers.workspace.project import CONFIGURATION, Limits, find_source, read_source

REPOSITORY = "repository.git"
PREFIX_FILE = "prefix"
MAX_FILES = 200
"""Names of changed files in a result; the patch has them all."""
CLONE_TIME_LIMIT = timedelta(minutes=30)
REPO_ADDRESS = re.compile(r"(?:(?P<scheme>[a-z]+)://|[\w.-]+@[\w.-]+:(?!:))[^\s\x00-\x1f]+")


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

    async def open(self, session_id: UUID | str, *, path: str | None = None, repo: str | None = None) -> "Workspace":
        """The session's workspace, made from `path` or `repo` (or empty) when it is first opened.

        Raises BadPath, which trying again does not help.
        """
        return await asyncio.to_thread(self._open, str(session_id), path, repo)

    async def merge_steps(
        self,
        session_id: UUID | str,
        commits: Sequence[str],
        *,
        base: str | None,
        is_last: bool,
        path: str | None = None,
        repo: str | None = None,
    ) -> Merged:
        """Merges a superstep's commits, which start at `base`; with the last one the session's result is made.

        A session without a project has a result only if its steps changed something.
        """
        has_result = is_last and (path or repo or base or commits)
        if not commits and not has_result:
            return Merged(base)
        workspace = await self.open(session_id, path=path, repo=repo)
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

    def _open(self, session_id: str, path: str | None, repo: str | None) -> "Workspace":
        home = self.root / session_id
        if not home.exists():
            with self._locked(session_id):
                if not home.exists():  # another process may have been quicker
                    self._build(home, path, repo)
        return Workspace.at(home)

    def _build(self, home: Path, path: str | None, repo: str | None) -> None:
        """Builds in a directory of its own first: one that has the session's name is complete."""
        _shield(self.root)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=self.root) as name:
            building = Path(name) / "workspace"
            building.mkdir()
            git = Git(building / REPOSITORY)
            prefix = ""
            if repo is not None:
                self._clone(git, repo)
            else:
                git.gitdir.mkdir()
                git.run("init", "--quiet", "--bare", "--initial-branch=initial", "--template=")
                _set_attributes(git)
                if path is None:
                    import_entries(git, building, [])
                else:
                    source = find_source(path, self.allowed_paths)
                    prefix = source.prefix
                    import_entries(git, source.top, read_source(source, self.limits))
            (building / PREFIX_FILE).write_bytes(os.fsencode(prefix))
            building.rename(home)

    def _clone(self, git: Git, repo: str) -> None:
        address = REPO_ADDRESS.fullmatch(repo)
        if not address or (address["scheme"] or "ssh") not in self.clone_protocols:
            raise BadPath(f"{repo!r} is not the https or ssh address of a git repository.")
        environment = clean_environment() | {"GIT_ALLOW_PROTOCOL": ":".join(self.clone_protocols)}
        options = ["--quiet", "--bare", "--depth=1", "--single-branch", "--no-tags", "--template="]
        try:
            execute(
                ["clone", *options, "--", repo, git.gitdir],
                cwd=git.gitdir.parent,
                env=environment,
                timeout=CLONE_TIME_LIMIT,
            )
            git.run("update-ref", REF, "HEAD")
        except GitFailed as error:
            raise BadPath(f"{repo} cannot be cloned: {error}") from error
        _set_attributes(git)
        sizes = [line.split()[3] for line in git.text("ls-tree", "-r", "-l", REF).splitlines()]
        if len(sizes) > self.limits.max_files:
            raise BadPath(f"{repo} holds more than {self.limits.max_files:,} files.")
        if sum(int(size) for size in sizes if size != "-") > self.limits.max_bytes:
            raise BadPath(f"{repo} holds more than {self.limits.max_bytes:,} bytes.")

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
        """A fresh directory with the project's files as of `base`; those of earlier attempts are removed."""
        return await asyncio.to_thread(self._checkout, base, step, attempt)

    async def commit(self, worktree: Path, *, agent: str, message: str) -> str | None:
        """The SHA of a commit on top of the checkout's base; None when nothing changed."""
        return await asyncio.to_thread(Checkout.at(worktree).commit, agent=agent, message=message)

    async def discard(self, worktree: Path) -> None:
        await asyncio.to_thread(Checkout.at(worktree).discard)

    async def merge(self, base: str, commits: Sequence[str]) -> str:
        """One history, in the order given, out of commits that all start at `base`; always with the same SHA.

        Raises WorkspaceConflict, which names the files.
        """
        return await asyncio.to_thread(self._merge, base, commits)

    async def finish(self, base: str, *, session: UUID | str) -> Finished:
        """Sets the branch `stellwerk/SESSION` to `base` and writes the patch, for `git apply` at the top."""
        return await asyncio.to_thread(self._finish, base, str(session))

    async def remove(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)

    def _checkout(self, base: str, step: int, attempt: int) -> Path:
        steps = self.home / "steps"
        steps.mkdir(exist_ok=True)
        for leftover in steps.glob(f"{step}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
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
            files = ", ".join(sorted(set(rest[: rest.index("")])))
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


def _shield(root: Path) -> None:
    """Ruff looks for configuration upwards: not into a project that the workspaces happen to lie in."""
    if any((parent / name).exists() for parent in root.parents for name in CONFIGURATION):
        (root / "ruff.toml").touch()


def _set_attributes(git: Git) -> None:
    (git.gitdir / "info").mkdir(exist_ok=True)
    (git.gitdir / "info" / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
