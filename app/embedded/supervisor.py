"""`stellwerk up`: the servers that no address is set for, the migrations, workers and gateway.

    Postgres, Valkey ─▶ migrations ─▶ workers, gateway ─▶ /readyz ─▶ stellwerk.json

What dies is started again. Stopping goes the same way backwards, within 20 seconds.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import NamedTuple

import psycopg
from pydantic import SecretStr

from app.config import PROVIDER_KEYS, Settings
from app.database import create_engine, transaction
from app.embedded import continuity
from app.embedded.home import close_home, keep_access, make_home
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.running import StackInfo, StackLock, publish, withdraw
from app.embedded.sentinel import Sentinel
from app.embedded.service import Part, Say, Service, Watch
from app.embedded.strays import MARK, end_services, end_stack
from app.embedded.valkey import EmbeddedValkey
from app.errors import EmbeddedServerError
from app.events.epochs import bump_epoch
from app.known_secrets import Secrets
from app.privacy import NOT_FOR_GATEWAYS, NOT_FOR_WORKERS, variables
from app.redaction import Redactor
from app.schema import migrate
from app.sessions import worker_repository
from app.sessions.model import RefusedWorkflow

READY_PATIENCE = 90.0  # importing the worker and the gateway takes seconds, on a busy machine many
SERVICES_PATIENCE = 11.0  # with that for strays (1), Valkey (2) and Postgres (4) below the 20 s promised
LOOK_EVERY = 0.1

WORKER = "import sys; from workers.main import app; app.start(sys.argv[1:])"
"""What `celery -A workers.main` does, but for looking for the application in the current directory first."""

OPTIONS_OF_CELERY = frozenset({"APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE"})
"""What its command line takes for options. Hosting platforms set some of these for something else."""


class Commands(NamedTuple):
    """What runs as worker and gateway; -P, for a stack is often started in a project that has an `app` of its own."""

    worker: tuple[str, ...] = (sys.executable, "-P", "-c", WORKER, "worker")
    gateway: tuple[str, ...] = (sys.executable, "-P", "-m", "app.gateway")


class Stack:
    """Everything that one home runs: a context manager, in which `watch` keeps it running."""

    def __init__(
        self, settings: Settings, *, workers: int = 1, commands: Commands | None = None, say: Say = print
    ) -> None:
        self._settings = settings
        self._home = make_home(settings.home)
        self._commands = commands or Commands()
        self._say = say
        # No threading.Event: a signal handler that sets one which this thread is about to wait for deadlocks.
        self._stopping = False
        self._lock = StackLock(self._home)
        self._sentinel: Sentinel | None = None
        self._postgres = EmbeddedPostgres(self._home, give_up=lambda: self._stopping)
        self._valkey = EmbeddedValkey(self._home, give_up=lambda: self._stopping)
        self._servers: list[EmbeddedPostgres | EmbeddedValkey] = []
        if settings.database_url is None:
            self._servers.append(self._postgres)
        if settings.redis_url is None:
            self._servers.append(self._valkey)
        self._gateway = Service(
            "gateway", self._commands.gateway, self._home, self._gateway_environment, redact=self._redacted
        )
        self._services = [self._gateway, *(self._worker(number) for number in range(1, workers + 1))]
        self._watches: list[Watch] = []
        self._port, self._token = 0, ""
        self._has_looked = False  # whether the data is a copy; before that, what is known of it must stay
        self.refused: list[str] = []
        """What the workers do not serve, a line for each, once the stack is ready."""

    @property
    def info(self) -> StackInfo:
        return StackInfo(
            url=self._url,
            token=self._token,
            pid=os.getpid(),
            database_url=self._settings.database_url or self._postgres.url,
            redis_url=self._settings.redis_url or self._valkey.url,
        )

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def watch(self) -> None:
        """Keeps all parts running until `request_stop`."""
        while not self._stopping:
            self._tend()
            time.sleep(LOOK_EVERY)

    def request_stop(self) -> None:
        """Ends the start and `watch` early. May be called from a signal handler."""
        self._stopping = True

    def kill(self) -> None:
        """Ends everything at once, so that `stop` need not wait. May be called from a signal handler."""
        for part in (*self._services, *self._servers):
            part.kill()

    def stop(self) -> None:
        """Ends gateway, workers, Valkey, Postgres, in this order."""
        self._stopping = True
        withdraw(self._home)
        for service in self._services:
            service.ask_to_stop()
        deadline = time.monotonic() + SERVICES_PATIENCE
        for service in self._services:
            service.wait(deadline - time.monotonic())
        end_services(self._home, patience=1)  # what they started and left
        self._remember()
        for server in reversed(self._servers):
            server.stop()
        if self._sentinel is not None:
            self._sentinel.close()
        self._lock.release()

    def __enter__(self) -> "Stack":
        """Raises StackRunning, EmbeddedServerError."""
        self._lock.take()
        try:
            self._lock.sign()
            close_home(self._home)
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _url(self) -> str:
        return f"http://{self._reachable_host}:{self._port}"

    @property
    def _reachable_host(self) -> str:
        """An address that means "on every interface" is none to connect to."""
        return "127.0.0.1" if self._settings.host in {"0.0.0.0", "::", ""} else self._settings.host  # noqa: S104

    def _worker(self, number: int) -> Service:
        # Two workers of one name would get each other's remote commands.
        options = [f"--hostname=worker{number}@%h", f"--loglevel={self._settings.log_level}"]
        quiet = ["--without-gossip", "--without-mingle"]  # workers need not know each other
        name = "worker" if number == 1 else f"worker{number}"
        command = [*self._commands.worker, *options, *quiet]
        return Service(name, command, self._home, self._worker_environment, redact=self._redacted)

    def _redacted(self, line: str) -> str:
        """What an agent prints comes past its worker's own log."""
        return self._redactor.text(line)

    @cached_property
    def _redactor(self) -> Redactor:
        """To be asked for once the servers run, which have passwords of their own."""
        info = self.info
        places = {"database_url": info.database_url, "redis_url": info.redis_url, "token": SecretStr(info.token)}
        return Redactor(Secrets.of(self._settings.model_copy(update=places)))

    def _environment(self, *, without: Collection[str]) -> dict[str, str]:
        info = self.info
        variables = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",  # a log line that waits in a buffer is lost with its process
            MARK: str(self._home),
            "STELLWERK_HOME": str(self._home),
            "STELLWERK_DATABASE_URL": info.database_url,
            "STELLWERK_REDIS_URL": info.redis_url,
            "STELLWERK_BROKER_URL": self._settings.broker_url or info.redis_url,
            "STELLWERK_HOST": self._settings.host,
            "STELLWERK_PORT": str(self._port),
            "STELLWERK_TOKEN": self._token,
            "STELLWERK_URL": info.url,
        }
        return {name: value for name, value in variables.items() if name not in without}

    def _gateway_environment(self) -> dict[str, str]:
        """It calls no model."""
        return self._environment(without=PROVIDER_KEYS | variables(NOT_FOR_GATEWAYS))

    def _worker_environment(self) -> dict[str, str]:
        """It asks nothing of the gateway, and what it starts has a token for its step."""
        return self._environment(without=variables(NOT_FOR_WORKERS) | OPTIONS_OF_CELERY)

    def _start_all(self) -> None:
        """Returns when the gateway is ready and a worker has registered, or when it was asked to stop meanwhile."""
        self._sentinel = Sentinel(self._home)
        withdraw(self._home)
        end_stack(self._home)
        token = self._settings.token.get_secret_value() if self._settings.token else None
        access = keep_access(self._home / "gateway.json", port=self._settings.port, password=token)
        self._port, self._token = access.port, access.password
        for server in self._servers:
            self._start(server)
        if not self.is_stopping:
            self._migrate()
            if self._postgres in self._servers:
                asyncio.run(_forget_workers(self.info.database_url))  # of this home's own what they told is over
                self._look_for_a_copy()
        for service in self._services:
            self._start(service)
        self._await_gateway()
        if not self.is_stopping:
            publish(self._home, self.info)

    def _migrate(self) -> None:
        if self._postgres in self._servers:
            address = self._postgres.superuser_url
        else:
            address = self._settings.migrate_url or self.info.database_url
        for statement in migrate(address, app=self.info.database_url):
            self._say(f"warning: gateway and workers may rewrite history until a superuser has run: {statement}")

    def _look_for_a_copy(self) -> None:
        """Begins a new epoch if the database's directory was copied back: its readers know more than it does."""
        known, seen = continuity.last_known(self._home), self._postgres.continuity()
        if known is not None and (reason := seen.broken_since(known)):
            self._say(f"{reason}; a new epoch begins, and readers of what is gone are told")
            asyncio.run(_bump_epoch(self._postgres.superuser_url, reason))
        self._has_looked = True
        self._remember()

    def _remember(self) -> None:
        """While no service writes: what Postgres says now is the least that it has to know at its next start."""
        if self._has_looked and self._postgres.is_running:
            with suppress(psycopg.Error, OSError):
                continuity.keep(self._home, self._postgres.continuity())

    def _start(self, part: Part) -> None:
        if not self.is_stopping:
            part.start()
            self._watches.append(Watch(part, self._say))

    def _tend(self) -> None:
        before = self.info
        for watch in self._watches:
            watch.tend()
        if self.info != before:  # a server came back, but its port had been taken
            for service in self._services:
                service.stop()
            publish(self._home, self.info)

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + READY_PATIENCE
        while not self._stopping and not self._gateway_is_ready():
            time.sleep(LOOK_EVERY)
            for service in self._services:
                if not service.is_running:
                    raise EmbeddedServerError(f"the {service.name} does not start:\n{service.last_words()}")
            if time.monotonic() > deadline:
                log = self._home / "logs"
                raise EmbeddedServerError(f"the stack was not ready after {READY_PATIENCE:.0f} s; see {log}")

    def _gateway_is_ready(self) -> bool:
        """Also waits for a worker that has registered, so that what is submitted now begins at once.

        Raises EmbeddedServerError where in a new database all that it was given is refused.
        """
        connection = HTTPConnection(self._reachable_host, self._port, timeout=2)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            if answer.status not in {200, 503}:
                return False
            told = json.loads(answer.read())
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        self.refused = [str(RefusedWorkflow(**refused)) for refused in told.get("refusals") or ()]
        if answer.status == 503 and self.refused:
            raise EmbeddedServerError("\n".join(["the workers serve nothing:", *self.refused]))
        return answer.status == 200 and told["workers"] > 0


async def _bump_epoch(database_url: str, reason: str) -> None:
    engine = create_engine(database_url, pool_size=1)
    await bump_epoch(engine, reason)
    await engine.dispose()


async def _forget_workers(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1)
    async with transaction(engine) as db:
        await worker_repository.forget_workers(db)
    await engine.dispose()
