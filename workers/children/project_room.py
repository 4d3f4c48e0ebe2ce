"""A throw-away directory in which a project's content is worked on: all that its own code, and tools on it, may see."""

import asyncio
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.config import MIB, Settings
from app.errors import SandboxRequired
from workers.children.guarded import Completed, run_guarded
from workers.children.scratch import scratch_directory

PROJECT_LIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_NOFILE": 4096,
    "RLIMIT_FSIZE": 1024 * MIB,
    "RLIMIT_AS": 16 * 1024 * MIB,  # address space, of which numeric libraries reserve far more than they use
}
PROJECT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
OUTPUT_BYTES = MIB
SANDBOX_USER = 65533
"""Where the worker is root, what runs in a sandbox is this user: no account's, and not nobody, who has servers here."""
PROBE_LIMIT = timedelta(seconds=30)
_ROOT_ONLY = "root-only"
_PROBE = f'test ! -r "${{TMPDIR%/*}}/{_ROOT_ONLY}" && test ! -w /proc/sys/kernel/core_pattern'
_checked = set[str]()


@dataclass(frozen=True, slots=True)
class ProjectRoom:
    """`files` is for the copy of the project; HOME and TMPDIR lie beside it, and what runs here writes nowhere else."""

    directory: Path
    settings: Settings

    @property
    def files(self) -> Path:
        return self.directory / "project"

    @property
    def temporary(self) -> Path:
        """Where what runs here may leave something for the worker."""
        return self.directory / "tmp"

    async def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        timeout: timedelta,
        variables: Mapping[str, str] | None = None,
        stdout_limit: int = OUTPUT_BYTES,
        is_ours: bool = False,
    ) -> Completed:
        """Runs the command under the command prefix that the setting `sandbox` names; it may be any code.

        The prefix has to show the directory in which TMPDIR lies, writable, and `cwd` is in it. Raises SandboxRequired
        with one that leaves root what it is, and without one in a deployment that others can reach, unless the command
        `is_ours` and only its input is the project's.
        """
        prefix = shlex.split(self.settings.sandbox)
        if not (prefix or is_ours or self.settings.on_loopback):
            raise SandboxRequired
        if prefix and os.geteuid() == 0:
            await _check_that_it_takes_root_away(self.settings)
            await asyncio.to_thread(_give, self.directory, SANDBOX_USER)
            prefix += dropping_root()
        return await run_guarded(
            [*prefix, *command],
            cwd=cwd,
            env=self._environment() | dict(variables or {}),
            timeout=timeout,
            stdout_limit=stdout_limit,
            rlimits=PROJECT_LIMITS,
        )

    def _environment(self) -> dict[str, str]:
        """No token or setting of ours."""
        kept = {name: os.environ[name] for name in PROJECT_VARIABLES if name in os.environ}
        return kept | {"HOME": str(self.directory / "home"), "TMPDIR": str(self.temporary)}


@asynccontextmanager
async def project_room(settings: Settings) -> AsyncIterator[ProjectRoom]:
    """An empty room; removed at the end of the block."""
    async with scratch_directory() as directory:
        room = ProjectRoom(directory, settings)
        for place in (directory / "home", room.temporary):
            place.mkdir()
        yield room


def dropping_root() -> list[str]:
    """The command prefix, inside of the sandbox, that makes root an ordinary user without any capability.

    Inside, since what the sandbox shows may lie below directories that only root can enter.
    """
    user = str(SANDBOX_USER)
    given_up = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    return [shutil.which("setpriv") or "setpriv", f"--reuid={user}", f"--regid={user}", *given_up, "--"]


async def _check_that_it_takes_root_away(settings: Settings) -> None:
    """Once for each prefix. Raises SandboxRequired."""
    if settings.sandbox in _checked:
        return
    if shutil.which("setpriv") is None:
        raise SandboxRequired(
            "the worker is root, and setpriv (of util-linux), which would make it an ordinary user"
            " in the sandbox, is not installed: install it, or run the worker as another user"
        )
    async with project_room(settings) as room:
        await asyncio.to_thread(_give, room.directory, SANDBOX_USER)
        secret = room.directory / _ROOT_ONLY
        secret.touch(mode=0o600)
        done = await run_guarded(
            [*shlex.split(settings.sandbox), *dropping_root(), "/bin/sh", "-c", _PROBE],
            cwd=room.directory,
            env=room._environment(),
            timeout=PROBE_LIMIT,
        )
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300] or "a project's code would stay root in it"
        raise SandboxRequired(f"the worker is root, and the sandbox (STELLWERK_SANDBOX) does not hold it: {said}")
    _checked.add(settings.sandbox)


def _give(directory: Path, user: int) -> None:
    """Makes everything in the directory, and itself, this user's; links themselves, not what they point to."""
    os.chown(directory, user, user)
    for _, directories, files, at in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, user, user, dir_fd=at, follow_symlinks=False)
