"""What a stack keeps in STELLWERK_HOME: passwords, ports, the lock, and where the running stack is found."""

import os
import random
import secrets
import socket
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from app.errors import EmbeddedServerError

# Below the ranges from which Linux (32768) and macOS (49152) take ports for outgoing connections, so that
# a stack that is down does not lose its port to another program's connection.
PORTS = range(20_000, 32_000)


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
    """Root's home lets others pass, not look: Postgres, which refuses to run as root, has its data below."""
    home = make_directory(path.expanduser().resolve())
    if os.geteuid() == 0:
        home.chmod(home.stat().st_mode | 0o011)
    return home


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
