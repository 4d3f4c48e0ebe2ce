"""Homes of before, and homes that other users of the machine had or have a hand in."""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from app.embedded.home import close_home, read_private, write_private
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.running import StackLock
from app.errors import EmbeddedServerError, StackRunning
from app.roles import APP, OWNER
from app.schema import migrate

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def test_a_home_of_before_the_roles_is_taken_over_at_the_next_start(home: Path) -> None:
    """Its file knew the superuser alone, who owned everything."""
    server = EmbeddedPostgres(home)
    server.start()
    try:
        _is_taken_over(server, home)
    finally:
        server.stop()


def _is_taken_over(server: EmbeddedPostgres, home: Path) -> None:
    first = read_private(home / "postgres.json")
    with psycopg.connect(server.superuser_url, autocommit=True) as db:
        for role in (APP, OWNER):
            db.execute(f"DROP ROLE {role}".encode())
    server.stop()
    write_private(home / "postgres.json", {name: first[name] for name in ("port", "password")})
    server.start()
    assert migrate(server.superuser_url, app=server.url) == []
    kept = read_private(home / "postgres.json")
    assert kept["url"] == server.url and kept["password"] == first["password"]
    for url, may in ((server.url, False), (kept["owner_url"], True)):
        with psycopg.connect(url) as db, suppress(psycopg.errors.InsufficientPrivilege):
            db.execute("DELETE FROM events")
            assert may
        with psycopg.connect(url) as db:
            assert db.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_a_home_that_is_everybodys_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(EmbeddedServerError, match="shared with others: set STELLWERK_HOME"):
        close_home(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


@as_root
def test_a_lock_that_another_user_holds_is_told(home: Path) -> None:
    """As it could be held since before the file was closed to others."""
    home.chmod(0o755)
    (home / "stack.lock").touch()
    (home / "stack.lock").chmod(0o644)
    told, telling = os.pipe()
    held, holding = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(holding)
        os.setgid(65533)
        os.setuid(65533)
        fcntl.flock(os.open(home / "stack.lock", os.O_RDONLY), fcntl.LOCK_SH)
        os.write(telling, b".")
        os.read(held, 1)
        os._exit(0)
    os.read(told, 1)
    try:
        with pytest.raises(StackRunning, match=f"locked by process {child} of user 65533, which is no stack"):
            StackLock(home).take()
    finally:
        os.close(holding)
        os.waitpid(child, 0)
        for descriptor in (told, telling, held):
            os.close(descriptor)
    free = StackLock(home)
    free.take()
    free.release()
