"""Of what a session's workspace is made, besides the files of a directory (importer.py)."""

import re
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from app.errors import BadPath, GitFailed
from workers.reading.files import LeftOut
from workers.workspace.cloned import take_out_what_does_not_fit
from workers.workspace.git import ATTRIBUTES, Git, clean_environment, execute
from workers.workspace.importer import REF
from workers.workspace.project import Limits

CLONE_TIME_LIMIT = timedelta(minutes=30)
REPO_ADDRESS: Final = re.compile(r"(?:(?P<scheme>[a-z]+)://|[\w.-]+@[\w.-]+:(?!:))[^\s\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A directory, a git address, or the workspace of the session that is continued, as of the commit `base`."""

    path: str | None
    repo: str | None
    continues: UUID | None
    base: str | None


def clone(git: Git, repo: str, *, protocols: tuple[str, ...], limits: Limits, left_out: LeftOut) -> None:
    """Raises BadPath."""
    address = REPO_ADDRESS.fullmatch(repo)
    if not address or (address["scheme"] or "ssh") not in protocols:
        raise BadPath(f"{repo!r} is not the https or ssh address of a git repository.")
    environment = clean_environment() | {"GIT_ALLOW_PROTOCOL": ":".join(protocols)}
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
    set_attributes(git)
    take_out_what_does_not_fit(git, repo, limits, left_out)


def take_over(git: Git, parent: Path, commit: str) -> None:
    """Makes the repository out of another session's, which may be removed then, to start from its `commit`."""
    shutil.copytree(parent, git.gitdir)  # a clone would leave out what no branch names
    git.run("update-ref", REF, commit)


def set_attributes(git: Git) -> None:
    (git.gitdir / "info").mkdir(exist_ok=True)
    (git.gitdir / "info" / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
