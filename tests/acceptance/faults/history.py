"""Everything that Postgres holds at the end, read with plain SQL and nothing of the project."""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Row:
    stream_id: str
    offset: int
    ts: datetime
    t: str
    agent: str | None
    phase: str | None
    step: int | None
    attempt: int | None
    data: str
    salt: bytes
    chain: bytes

    def wire(self, kind: str = "session") -> bytes:
        """What readers must have got of a stream of this kind."""
        name = "session_id" if kind == "session" else "stream_id"
        ts = self.ts.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return f'{{"offset":{self.offset},"{name}":"{self.stream_id}","ts":"{ts}",{self.data[1:]}'.encode()

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.data)
        return content


@dataclass(frozen=True, slots=True)
class Stream:
    stream_id: str
    kind: str
    head: int
    head_chain: bytes
    closed: bool


@dataclass(frozen=True, slots=True)
class Session:
    session_id: str
    task: str
    status: str
    reason: str | None
    result: Any


@dataclass
class History:
    streams: dict[str, Stream]
    rows: dict[str, list[Row]]
    sessions: dict[str, Session]

    @property
    def events(self) -> int:
        return sum(len(rows) for rows in self.rows.values())

    @property
    def fed(self) -> dict[str, Stream]:
        """The streams whose events the feed has: all but that of heads."""
        return {stream_id: stream for stream_id, stream in self.streams.items() if stream.kind != "heads"}

    @property
    def fed_events(self) -> int:
        return sum(len(self.rows.get(stream_id, [])) for stream_id in self.fed)


def read_history(address: str) -> History:
    rows: dict[str, list[Row]] = defaultdict(list)
    with psycopg.connect(address, options="-c timezone=UTC") as db:
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        streams = db.cursor(row_factory=class_row(Stream)).execute(
            "SELECT stream_id::text, kind, head, head_chain, closed FROM streams"
        )
        found = {stream.stream_id: stream for stream in streams}
        sessions = db.cursor(row_factory=class_row(Session)).execute(
            "SELECT session_id::text, task, status, reason, result FROM sessions"
        )
        asked = {session.session_id: session for session in sessions}
        for row in db.cursor(row_factory=class_row(Row)).execute(
            'SELECT stream_id::text, "offset", ts, t, agent, phase, step, attempt, data::text, salt, chain'
            ' FROM events ORDER BY stream_id, "offset"'
        ):
            rows[row.stream_id].append(row)
    return History(found, rows, asked)
