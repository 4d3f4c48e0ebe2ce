"""Notices that an embedded database's directory was copied back. Postgres itself cannot: it is the same cluster, on the
same timeline, and its log is merely shorter than it was.

What lies beside the directory remembers which copy it was, by what no tool restores (a file's inode and the time of its
last change of state), and how far the write-ahead log had come.
"""

from pathlib import Path
from typing import NamedTuple

import psycopg

from app.embedded.home import read_private, write_private

FILE = "continuity.json"
CONNECT_SECONDS = 2
_QUERY = """
SELECT system_identifier, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint FROM pg_control_system()
"""


class Continuity(NamedTuple):
    cluster: int
    position: int
    """How far its write-ahead log has come, in bytes."""
    made: int
    """When the state of a file changed that is written once and never again: a copy of it is younger."""
    control: int
    """The inode of a file that is always written in place: what replaces it has another one."""

    def broken_since(self, known: "Continuity") -> str | None:
        """Says why this is not the database that was known before, gone on, if it is not."""
        if self.cluster != known.cluster:
            return None  # the epoch knows that
        if self.position < known.position:
            return "the data directory is older than it was: it was copied back"
        if (self.made, self.control) != (known.made, known.control):
            return "the data directory is a copy of the one that was here"
        return None


def observe(database_url: str, data: Path) -> Continuity:
    """Raises psycopg.Error."""
    with psycopg.connect(database_url, connect_timeout=CONNECT_SECONDS) as db:
        row = db.execute(_QUERY).fetchone()
    assert row is not None
    made, control = (data / "PG_VERSION").stat().st_ctime_ns, (data / "global" / "pg_control").stat().st_ino
    return Continuity(cluster=row[0], position=row[1], made=made, control=control)


def last_known(home: Path) -> Continuity | None:
    try:
        return Continuity(**read_private(home / FILE))
    except TypeError:
        return None  # there is none, or it is another version's


def keep(home: Path, seen: Continuity) -> None:
    write_private(home / FILE, seen._asdict())
