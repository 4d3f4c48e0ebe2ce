"""Running git so that nothing but git runs: no hook, filter, monitor or helper that a project could bring."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.errors import GitFailed

CONFIG_FILE = Path(__file__).with_name("gitconfig")

# On the command line, because it has to win over the repository's own config, which a project's tests (run by
# the same account, unless there is a sandbox) could have rewritten.
CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.ignoreCase": "false",
    "core.precomposeUnicode": "false",
    "core.protectNTFS": "false",
    "core.protectHFS": "false",
    "core.quotePath": "true",
    "commit.gpgSign": "false",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
}

# Bytes stay what they are on disk, whatever the project's .gitattributes say: this file has the last word.
# Unset (!) rather than false where git refuses false.
ATTRIBUTES = "* -text !eol -ident !filter !working-tree-encoding !diff !merge !export-subst !export-ignore\n"

PASSED_ON = (
    *("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "TZ", "SSH_AUTH_SOCK"),
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ),
)

TIME_LIMIT = timedelta(minutes=15)
"""Of what git does in a workspace, whatever files it finds there."""

COMMITTER = {"GIT_COMMITTER_NAME": "stellwerk", "GIT_COMMITTER_EMAIL": "stellwerk@localhost"}


@dataclass(frozen=True, slots=True)
class Git:
    """Git on one of our repositories. The gitdir is always named, so none is ever looked for."""

    gitdir: Path

    def run(
        self,
        *arguments: str | Path,
        worktree: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        time_limit: timedelta = TIME_LIMIT,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs in `worktree` if given, else in the gitdir; raises GitFailed for other exit codes."""
        environment = clean_environment() | COMMITTER | {"GIT_LITERAL_PATHSPECS": "1"} | dict(variables or {})
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        where = [f"--git-dir={self.gitdir}", *([f"--work-tree={worktree}"] if worktree else [])]
        return execute(
            [*where, *arguments],
            cwd=worktree or self.gitdir,
            env=environment,
            stdin=stdin,
            accept=accept,
            timeout=time_limit,
        )

    def text(self, *arguments: str | Path) -> str:
        return os.fsdecode(self.run(*arguments).stdout).strip()

    def paths(self, *arguments: str | Path) -> list[str]:
        """The output of a command that was given -z."""
        return split_paths(self.run(*arguments).stdout)


def split_paths(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def clean_environment() -> dict[str, str]:
    """What git and ssh need of ours: no GIT_… (a worker may run inside a hook), and no secret of any program."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {
        "GIT_CONFIG_GLOBAL": str(CONFIG_FILE),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "LC_ALL": "C",
    }


def execute(
    arguments: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    accept: Sequence[int] = (0,),
    timeout: timedelta | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """`git` with our configuration. Raises GitFailed with what it said."""
    seconds = timeout.total_seconds() if timeout else None
    try:
        done = subprocess.run(
            command(arguments),
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git {_verb(arguments)} took longer than {timeout}") from error
    except FileNotFoundError as error:
        raise GitFailed("git is not installed, or not on the PATH") from error
    if done.returncode not in accept:
        said = os.fsdecode(done.stderr).strip() or "nothing"
        raise GitFailed(f"git {_verb(arguments)} ended with {done.returncode} and said: {said}")
    return done


def command(arguments: Sequence[str | Path]) -> list[str]:
    options = [option for name, value in CONFIG.items() for option in ("-c", f"{name}={value}")]
    return ["git", *options, *map(str, arguments)]


def _verb(arguments: Sequence[str | Path]) -> str:
    words = [str(argument) for argument in arguments]
    return next((word for at, word in enumerate(words) if not word.startswith("-") and words[at - 1] != "-c"), "")
