"""What a stack keeps in STELLWERK_HOME: passwords, ports, the lock, and where the running stack is found."""

import os
import random
import secrets
import socket
import stat
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from app.errors import EmbeddedServerError

# Below the ranges from which Linux (32768) and macOS (49152) take ports for outgoing connections, so that
# a stack that is down does not lose its port to another program's connection.
PORTS = range(20_000, 32_000)


NOBODY = 65534
CONTENT = (
    *("postgres.json", "valkey.json", "gateway.json", "stellwerk.json", "stack.lock", "run.lock"),
    *("valkey", "valkey/valkey.conf", "logs", "workspaces"),
)
"""What a home holds besides Postgres' directory; anything else in it is its owner's."""


class Access(NamedTuple):
    """The port on which a server of this home listens, and the password that opens it."""

    port: int
    password: str


def make_directory(path: Path, *, mode: int = 0o700) -> Path:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)  # whatever the umask is
    return path


def make_home(path: Path) -> Path:
    return make_directory(path.expanduser().resolve())


def close_home(home: Path) -> None:
    """Takes from others whatever earlier versions, or a careless umask, have left them. Raises EmbeddedServerError.

    What lies deeper is behind directories that they cannot enter; Postgres sees to its own.
    """
    if home == home.parent or home.stat().st_mode & stat.S_ISVTX:
        raise EmbeddedServerError(f"{home} is shared with others: set STELLWERK_HOME to a directory of its own")
    for path in (home, *(home / name for name in CONTENT), *(home / "logs").glob("*")):
        if path.is_symlink() or not path.exists():
            continue
        # Of root's home the group is Postgres', which may pass.
        kept = 0o710 if path == home and os.geteuid() == 0 and lets_nobody_pass(home) else 0o700
        mode = stat.S_IMODE(path.stat().st_mode)
        try:
            if mode != mode & kept:
                path.chmod(mode & kept)
        except PermissionError as error:
            raise EmbeddedServerError(f"{path} belongs to another user, who can read and change it") from error


def let_nobody_pass(directory: Path) -> None:
    """Postgres, which refuses to run as root, is nobody then, and passes through by its group; it cannot look."""
    os.chown(directory, -1, NOBODY)
    directory.chmod(0o710)


def lets_nobody_pass(directory: Path) -> bool:
    found = directory.stat()
    return bool(found.st_mode & 0o001 or (found.st_gid == NOBODY and found.st_mode & 0o010))


def open_private(path: Path) -> IO[str]:
    """To read and to append; others cannot open it, and so cannot lock it. Raises EmbeddedServerError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise EmbeddedServerError(f"{path} belongs to another user: set STELLWERK_HOME to your own") from error
    return os.fdopen(descriptor, "r+")


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces a JSON file atomically; at no moment can another user read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(handle, "wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def read_private(path: Path) -> dict[str, Any]:
    """{} when there is no such file, or none that can be understood."""
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def keep_access(path: Path, *, port: int = 0, password: str | None = None) -> Access:
    """The port and password that `path` keeps, made at the first call.

    A port that something else has taken meanwhile is replaced. A `port` that is asked for is used as it is
    and kept; a `password` that is given is used and not kept.
    """
    kept = read_private(path)
    port = port or _still_free(kept.get("port")) or free_port()
    kept_password = keep(path, port=port, password=kept.get("password") or new_password())["password"]
    return Access(port, password or kept_password)


def keep(path: Path, **content: Any) -> dict[str, Any]:
    """Writes into a private file what it does not say yet; returns all that it says."""
    kept = read_private(path)
    if kept != (new := kept | content):
        write_private(path, new)
    return new


def new_password() -> str:
    return secrets.token_urlsafe(24)


def free_port() -> int:
    for port in random.sample(PORTS, k=200):
        if is_free(port):
            return port
    raise EmbeddedServerError("no free port was found between 20000 and 32000")


def is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        # As servers do: connections of a former life in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _still_free(port: object) -> int | None:
    return port if isinstance(port, int) and is_free(port) else None
