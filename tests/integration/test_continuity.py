"""An embedded data directory that was copied back begins a new epoch; one that goes on, or was moved, does not."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg

from app.database import create_engine, transaction
from app.embedded.continuity import Continuity, keep, last_known
from app.embedded.home import make_directory
from app.embedded.postgres import EmbeddedPostgres
from app.events.epochs import current_epoch
from tests.integration.test_supervisor import watched


def reachable(home: Path) -> Path:
    """A home that has its data below it, also where root runs Postgres as nobody."""
    home.chmod(0o711)
    return make_directory(home / "own", mode=0o711)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=60)


def replaced(home: Path, backup: Path) -> None:
    """All of the home is taken away, and the copy put in its place."""
    run("rm", "-rf", home)
    run("cp", "-a", backup, home)


def replaced_the_data(home: Path, backup: Path) -> None:
    run("rm", "-rf", home / "postgres")
    run("cp", "-a", backup / "postgres", home / "postgres")


def written_over(home: Path, backup: Path) -> None:
    """As `rsync -a` does it: files of the same size and time are left alone, others are replaced."""
    for file in backup.rglob("*"):
        there = home / file.relative_to(backup)
        if file.is_file() and (not there.exists() or _looks(there) != _looks(file)):
            run("cp", "-a", file, there.with_name("temporary"))
            there.with_name("temporary").rename(there)


def _looks(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


def written_over_in_place(home: Path, backup: Path) -> None:
    """As `rsync -a --inplace` does it, of the data alone: no inode changes, nor PG_VERSION."""
    for file in (backup / "postgres").rglob("*"):
        there = home / file.relative_to(backup)
        if file.is_file() and (not there.exists() or _looks(there) != _looks(file)):
            run("cp", "-a", file, there)


def seen(home: Path, *statements: str) -> Continuity:
    """One life of the server."""
    server = EmbeddedPostgres(home)
    server.start()
    try:
        with psycopg.connect(server.superuser_url, autocommit=True) as db:
            for statement in statements:
                db.execute(statement)
        return server.continuity()
    finally:
        server.stop()


WAYS: tuple[Callable[[Path, Path], None], ...] = (written_over_in_place, written_over, replaced_the_data, replaced)


def test_a_copy_is_noticed_whichever_way_it_was_copied_back(home: Path) -> None:
    own, backup = reachable(home), home / "backup"
    keep(own, seen(own, "CREATE TABLE t (n int)"))
    run("cp", "-a", own, backup)
    own = own.rename(home / "moved")  # which is no copy
    for copied_back in WAYS:
        goes_on = seen(own, "INSERT INTO t SELECT generate_series(1, 100)")
        known = last_known(own)
        assert known is not None and goes_on.broken_since(known) is None
        keep(own, goes_on)
        copied_back(own, backup)
        known = last_known(own)
        assert known is not None and seen(own).broken_since(known), copied_back.__name__
        keep(own, seen(own))


async def test_a_stack_on_a_copy_begins_a_new_epoch(home: Path) -> None:
    async def epoch(url: str) -> int:
        engine = create_engine(url)
        async with transaction(engine) as db:
            found = await current_epoch(db)
        await engine.dispose()
        return found

    def lives() -> list[int]:
        with watched(own) as (stack, said):
            assert all("copied back" in line or "is a copy" in line for line in said)
            return [asyncio.run(epoch(stack.info.database_url)), len(said)]

    own = reachable(home)
    assert await asyncio.to_thread(lives) == [1, 0]
    await asyncio.to_thread(run, "cp", "-a", own, home / "backup")
    await asyncio.to_thread(replaced, own, home / "backup")
    first, said = await asyncio.to_thread(lives)
    assert first > 1 and said == 1
    assert await asyncio.to_thread(lives) == [first, 0]
