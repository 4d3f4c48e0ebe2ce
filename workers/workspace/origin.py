"""Of what a session's workspace is made, besides the files of a directory (importer.py)."""

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from app.errors import BadPath, GitFailed
from app.sessions.credentials import Credentials, without_credentials
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
    credentials: Credentials | None = None
    """What opens `repo`, if that does not say."""


def clone(
    git: Git,
    repo: str,
    *,
    protocols: tuple[str, ...],
    limits: Limits,
    left_out: LeftOut,
    credentials: Credentials | None = None,
) -> None:
    """What opens it is never on git's command line or in its environment. Raises BadPath."""
    repo, inside = without_credentials(repo)  # as the version before recorded it
    address = REPO_ADDRESS.fullmatch(repo)
    if not address or (address["scheme"] or "ssh") not in protocols:
        raise BadPath(f"{repo!r} is not the https or ssh address of a git repository.")
    environment = clean_environment() | {"GIT_ALLOW_PROTOCOL": ":".join(protocols)}
    options = ["--quiet", "--bare", "--depth=1", "--single-branch", "--no-tags", "--template="]
    try:
        with _store(credentials or inside, repo, git.gitdir.parent) as store:
            execute(
                [*store, "clone", *options, "--", repo, git.gitdir],
                cwd=git.gitdir.parent,
                env=environment,
                timeout=CLONE_TIME_LIMIT,
            )
        git.run("update-ref", REF, "HEAD")
    except GitFailed as error:
        raise BadPath(f"{repo} cannot be cloned: {error}") from error
    set_attributes(git)
    take_out_what_does_not_fit(git, repo, limits, left_out)


@contextmanager
def _store(credentials: Credentials | None, repo: str, directory: Path) -> Iterator[list[str]]:
    """Options of git, that name a file with the credentials for as long as they are needed.

    By git's own store rather than GIT_ASKPASS: it gives them to the host that they are for, wherever that redirects.
    """
    if credentials is None:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix=".credentials-", dir=directory) as name:  # 0700
        file = Path(name) / "store"
        file.touch(mode=0o600)
        file.write_text(f"{credentials.address_of(repo)}\n", encoding="utf-8")
        yield ["-c", "credential.helper=", "-c", f"credential.helper=store --file={shlex.quote(str(file))}"]


def take_over(git: Git, parent: Path, commit: str) -> None:
    """Makes the repository out of another session's, which may be removed then, to start from its `commit`."""
    shutil.copytree(parent, git.gitdir)  # a clone would leave out what no branch names
    git.run("update-ref", REF, commit)


def set_attributes(git: Git) -> None:
    (git.gitdir / "info").mkdir(exist_ok=True)
    (git.gitdir / "info" / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
