"""A checkout: the directory in which one attempt of a step reads and changes the session's files."""

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from app.errors import GitFailed
from workers.children.removal import remove_tree
from workers.reading.files import LeftOut, Walk
from workers.reading.listing import is_no_name
from workers.workspace.git import TIME_LIMIT, Git, split_paths

IGNORING_TIME_LIMIT = timedelta(minutes=2)
FACTS_FILE = "checkout.json"
LEFT_OUT_FILE = "left_out.json"
"""In the workspace, beside its repository."""
TREE = "tree"


@dataclass(frozen=True, slots=True)
class Checkout:
    """Lies in a directory of its own: `checkout.json`, the git index, and the files in `tree`.

    The files of the project are at `tree/prefix`, where they are in the user's repository. There is no `.git`
    in it, and one that an agent makes there means nothing.
    """

    home: Path
    gitdir: Path
    initial: str
    base: str
    prefix: str

    @classmethod
    def create(cls, home: Path, *, gitdir: Path, initial: str, base: str, prefix: str) -> "Checkout":
        checkout = cls(home, gitdir, initial, base, prefix)
        checkout.worktree.mkdir(parents=True)
        checkout._git("read-tree", "-u", "--reset", base)
        facts = {name: str(value) for name, value in asdict(checkout).items()}
        (home / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
        return checkout

    @classmethod
    def at(cls, worktree: Path) -> "Checkout":
        """The one that `worktree`, as `current_worktree()` gave it, belongs to."""
        for directory in worktree.parents:
            if (directory / FACTS_FILE).is_file():
                facts = json.loads((directory / FACTS_FILE).read_text(encoding="utf-8"))
                return cls(directory, Path(facts["gitdir"]), facts["initial"], facts["base"], facts["prefix"])
        raise GitFailed(f"{worktree} is not a checkout of a session's workspace")

    @property
    def worktree(self) -> Path:
        return self.home / TREE / self.prefix

    def left_out(self) -> LeftOut:
        """What of the project was not taken into the session's workspace."""
        return read_left_out(self.gitdir.parent)

    def changed(self) -> list[str]:
        """Files that differ from how the session found them; relative to the worktree, sorted."""
        self._stage()
        output = self._git("diff-index", "--cached", "--name-only", "--no-renames", "-z", self.initial)
        inside = (path for path in split_paths(output) if path.startswith(self.prefix))
        return sorted(path.removeprefix(self.prefix) for path in inside)

    def originals(self, files: Sequence[str]) -> dict[str, bytes | None]:
        """The contents with which the session found these files; None for one that did not exist."""
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", self.initial).split(b"\0")
        entries = (entry.partition(b"\t")[::2] for entry in listed if entry)
        objects = {name: facts.split()[2] for facts, name in entries if b" blob " in facts}
        # By the objects' names: one of a file may go over several lines.
        asked = {file: sha for file in files if (sha := objects.get(os.fsencode(self.prefix + file)))}
        output = io.BytesIO(self._git("cat-file", "--batch", stdin=b"".join(sha + b"\n" for sha in asked.values())))
        contents: dict[str, bytes | None] = dict.fromkeys(files)
        for file in asked:
            size = int(output.readline().split()[2])
            contents[file] = output.read(size + 1)[:size]
        return contents

    def restore(self, files: Sequence[str]) -> None:
        """Makes these files as the session found them, mode included."""
        originals = self.originals(files)
        known = [self.prefix + file for file in files if originals[file] is not None]
        for file in files:
            if originals[file] is None:
                (self.worktree / file).unlink(missing_ok=True)
        if known:
            listed = ("--pathspec-from-file=-", "--pathspec-file-nul")
            self._git("checkout", self.initial, *listed, stdin=os.fsencode("\0".join(known)))

    def copy_to(self, directory: Path) -> Path:
        """Copies the files, inherited configuration included; returns where the worktree is in the copy."""
        shutil.copytree(self.home / TREE, directory, symlinks=True, ignore=_special)
        return directory / self.prefix

    def commit(self, *, agent: str, message: str) -> str | None:
        """None when the files are those of the base commit."""
        self._stage()
        tree = os.fsdecode(self._git("write-tree")).strip()
        if tree == Git(self.gitdir).text("rev-parse", "--verify", f"{self.base}^{{tree}}"):
            return None
        author = {"GIT_AUTHOR_NAME": agent, "GIT_AUTHOR_EMAIL": f"{agent}@stellwerk"}
        commit = self._git("commit-tree", tree, "-p", self.base, "-m", message, variables=author)
        return os.fsdecode(commit).strip()

    def discard(self) -> None:
        remove_tree(self.home)

    def _stage(self) -> None:
        self._drop_what_is_not_added()
        try:
            self._git("add", "--all", ".", time_limit=IGNORING_TIME_LIMIT)
        except GitFailed:
            # git dies of some ignore files, and does not come to an end with others: without them all is added
            (self.home / "index.lock").unlink(missing_ok=True)
            self._git("add", "--all", "--force", ".")

    def _drop_what_is_not_added(self) -> None:
        """Of nested repositories git would look at the configuration, and commit a reference instead of their files; at
        some links it gives up.
        """
        walk = Walk(str(self.home / TREE))
        for found in walk:
            if found.name.lower() == ".git":
                walk.skip()
                nested = self.home / TREE / found.path
                if found.is_directory:
                    remove_tree(nested)
                else:
                    nested.unlink(missing_ok=True)
            elif found.is_link and is_no_name(found.path, is_link=True):
                (self.home / TREE / found.path).unlink(missing_ok=True)

    def _git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
        time_limit: timedelta = TIME_LIMIT,
    ) -> bytes:
        return (
            Git(self.gitdir)
            .run(
                *arguments,
                worktree=self.home / TREE,
                index=self.home / "index",
                stdin=stdin,
                variables=variables,
                time_limit=time_limit,
            )
            .stdout
        )


def _special(directory: str, names: list[str]) -> set[str]:
    """What cannot be copied: pipes, sockets and devices, which an agent or a test left."""
    with os.scandir(directory) as entries:
        return {
            entry.name
            for entry in entries
            if not (entry.is_symlink() or entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))
        }


def write_left_out(workspace: Path, left_out: LeftOut) -> None:
    if left_out.count:
        (workspace / LEFT_OUT_FILE).write_text(json.dumps(asdict(left_out)), encoding="utf-8")


def read_left_out(workspace: Path) -> LeftOut:
    try:
        return LeftOut(**json.loads((workspace / LEFT_OUT_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return LeftOut()
