"""The embedded servers: what survives a stop, a kill and other people's processes."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from app.embedded.home import free_port, is_free, keep_access
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sentinel import Sentinel
from app.embedded.valkey import EmbeddedValkey
from tests.processes import is_alive, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    """A started Postgres that the test may stop and kill."""
    server = EmbeddedPostgres(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(psutil.Process().children())
    yield
    assert not set(psutil.Process().children()) - before


def write(url: str) -> None:
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE kept (n int)")
        db.execute("INSERT INTO kept VALUES (7)")


def read(url: str) -> object:
    with psycopg.connect(url) as db:
        return db.execute("TABLE kept").fetchone()


def server_processes(name: str, directory: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if str(process.info["name"]).startswith(name) and process.info["cwd"] == str(directory)
    ]


def test_postgres_keeps_data_port_and_password(server: EmbeddedPostgres, home: Path) -> None:
    url = server.url
    write(server.superuser_url)
    server.stop()
    assert not server.is_running
    again = EmbeddedPostgres(home)
    again.start()
    try:
        assert again.url == url
        assert read(again.superuser_url) == (7,)
    finally:
        again.stop()


def test_valkey_keeps_data_port_and_password(own_valkey: EmbeddedValkey, home: Path) -> None:
    url = own_valkey.url
    with Redis.from_url(url) as client:
        client.rpush("queue", "message")
    own_valkey.stop()
    assert not own_valkey.is_running
    again = EmbeddedValkey(home)
    again.start()
    try:
        assert again.url == url
        with Redis.from_url(url) as client:
            assert client.lrange("queue", 0, -1) == [b"message"]
    finally:
        again.stop()


def test_what_a_shell_says_of_other_databases_is_not_for_this_one(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    psycopg.connect(postgres.url).close()


def test_a_wrong_password_opens_neither(server: EmbeddedPostgres, own_valkey: EmbeddedValkey) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url, password="guessed")
    with (
        Redis.from_url(own_valkey.url.replace("//:", "//:x")) as client,
        pytest.raises(AuthenticationError, match="invalid username-password pair"),
    ):
        client.ping()


def test_nobody_else_reads_the_secrets(server: EmbeddedPostgres, own_valkey: EmbeddedValkey, home: Path) -> None:
    secret = [home / "postgres.json", home / "valkey.json", home / "valkey" / "valkey.conf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700
    passwords = {keep_access(path).password for path in secret[:2]}
    for process in psutil.process_iter(["cmdline"]):
        assert not any(password in " ".join(process.info["cmdline"] or ()) for password in passwords)


def test_postgres_recovers_when_all_its_processes_were_killed(server: EmbeddedPostgres, home: Path) -> None:
    write(server.superuser_url)
    for process in server_processes("postgres", home / "postgres" / "data"):
        with suppress(psutil.NoSuchProcess):  # one of them ends with the one that was killed before it
            process.kill()
    again = EmbeddedPostgres(home)
    again.start()
    try:
        assert read(again.superuser_url) == (7,)
    finally:
        again.stop()


def test_postgres_recovers_while_orphans_of_the_killed_one_are_still_dying(
    server: EmbeddedPostgres, home: Path
) -> None:
    write(server.superuser_url)
    with closing(psycopg.connect(server.superuser_url, autocommit=True)) as busy:
        busy.execute("SELECT 1")
        postmaster = min(server_processes("postgres", home / "postgres" / "data"), key=lambda p: p.create_time())
        postmaster.kill()
        again = EmbeddedPostgres(home)
        again.start()
    try:
        assert read(again.superuser_url) == (7,)
    finally:
        again.stop()


def test_a_pid_file_that_names_another_living_process_does_not_stop_the_start(home: Path) -> None:
    first = EmbeddedPostgres(home)
    first.start()
    first.stop()
    stale = home / "postgres" / "data" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{stale.parent}\n")
    first.start()
    first.stop()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_server_that_an_earlier_life_left_running_is_replaced(
    home: Path, kind: type[EmbeddedPostgres] | type[EmbeddedValkey]
) -> None:
    earlier = kind(home)
    earlier.start()
    try:
        later = kind(home)
        later.start()
        try:
            assert not earlier.is_running
            assert later.url == earlier.url
        finally:
            later.stop()
    finally:
        earlier.stop()


def test_a_port_that_was_taken_meanwhile_is_replaced(home: Path) -> None:
    first = keep_access(home / "server.json")
    assert keep_access(home / "server.json") == first
    with closing(socket.create_server(("127.0.0.1", first.port))):
        assert not is_free(first.port)
        second = keep_access(home / "server.json")
    assert second.port != first.port
    assert second.password == first.password


def test_a_port_that_is_asked_for_is_kept(home: Path) -> None:
    port = free_port()
    assert keep_access(home / "server.json", port=port).port == port
    assert keep_access(home / "server.json").port == port


@as_root
def test_root_runs_postgres_as_nobody(server: EmbeddedPostgres, home: Path) -> None:
    owners = {process.uids().effective for process in server_processes("postgres", home / "postgres" / "data")}
    assert owners == {65534}


@as_root
def test_roots_home_may_lie_where_nobody_can_look(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = EmbeddedPostgres(tmp_path / "home")
    server.start()
    try:
        write(server.superuser_url)
        elsewhere = (tmp_path / "home" / "postgres").resolve()
        assert not elsewhere.is_relative_to(tmp_path)
        server.stop()
        server.start()
        assert read(server.superuser_url) == (7,)
    finally:
        server.stop()
    subprocess.run(["rm", "-r", elsewhere], check=True)


def test_the_sentinel_ends_the_servers_of_a_killed_process(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from app.embedded.sentinel import Sentinel\n"
        "from app.embedded.postgres import EmbeddedPostgres\n"
        "from app.embedded.valkey import EmbeddedValkey\n"
        "home = Path(sys.argv[1]); sentinel = Sentinel(home)\n"
        "EmbeddedPostgres(home).start(); EmbeddedValkey(home).start()\n"
        "print('started', flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        left = psutil.Process(owner.pid).children(recursive=True)
        assert len(left) > 3
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, left)), what="the servers and the sentinel have ended")


def test_a_sentinel_that_is_closed_leaves_nothing(home: Path) -> None:
    before = psutil.Process().children()
    with Sentinel(home):
        (sentinel,) = set(psutil.Process().children()) - set(before)
    assert not sentinel.is_running()


def test_the_temporary_directory_is_reachable() -> None:
    """What `home` in these tests relies on."""
    assert Path(tempfile.gettempdir()).stat().st_mode & 0o001
