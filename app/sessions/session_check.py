"""Comparing a session's row and its steps' rows, from which clients are served, with what its events tell."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import Altered, NotFound
from app.events import artifacts
from app.events.proof.fault import Check, Fault
from app.events.proof.veiled import is_as_told
from app.events.proof.verify import Entry
from app.events.read import StreamState
from app.sessions.facts import MAX_ERROR_CHARACTERS
from app.sessions.told import At, ToldSession, ToldStep, digest

NAMED = frozenset({"path", "repo", "worker"})
"""Columns that hold the names as they are, of which their events may hide what looks like a secret."""
PAGE = 500
"""Steps whose rows are read at once."""


def _hashed(*columns: str) -> str:
    """Large values do not travel: Postgres gives their digests."""
    return ", ".join(f"encode(sha256(convert_to({column}::text, 'UTF8')), 'hex') AS {column}" for column in columns)


_SESSION = """
SELECT x.status, x.reason, x.task, x.workflow, x.workflow_version, x.langgraph_version, x.path, x.repo, x.priority,
       x.project, x.principal, x.continues::text, x.created_at, x.ended_at, x.result::text AS result,
       x.folded_superstep, x.last_step, {hashed},
       s.workflow_name, e.epoch, e.xid::text AS xid
FROM streams s JOIN sessions x ON x.session_id = s.stream_id
LEFT JOIN events e ON e.stream_id = s.stream_id AND e."offset" = 1 WHERE s.stream_id = :id
""".format(hashed=_hashed("input", "context", "config", "options"))
_STEPS = """
SELECT step, superstep, task_path, agent, queue, status, attempt, failures, lost, worker, error, "commit",
       started_at, ended_at, {hashed}
FROM steps WHERE session_id = :id AND step > :after ORDER BY step LIMIT {page}
""".format(hashed=_hashed("question", "answer_schema", "answer", "update_data"), page=PAGE)
# Of the transaction that wrote the session's first event: by the index on the feed's order.
_SUBMITTED = """
SELECT EXISTS (
    SELECT FROM events e JOIN streams s USING (stream_id)
    WHERE (e.epoch, e.xid) = (:epoch, CAST(:xid AS xid8)) AND s.kind = 'operators' AND s.project = :project
      AND e.t = 'control_event' AND e.data ->> 'action' = 'session.create' AND e.data ->> 'target' = CAST(:id AS text)
)
"""
_CONTINUED = """
SELECT encode(e.chain, 'hex') FROM streams s LEFT JOIN events e ON e.stream_id = s.stream_id AND e."offset" = :head
WHERE s.stream_id = CAST(:parent AS uuid) AND s.earliest <= :head
"""


class SessionCheck:
    """Takes a session's events, and compares its rows with them."""

    def __init__(self) -> None:
        self._told = ToldSession()
        self._odd: list[Fault] = []

    def take(self, entry: Entry, event: dict[str, Any]) -> None:
        try:
            self._told.take(entry, event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"it is not a {event['t']} as the log has them: {error!r}"
            self._odd.append(Fault(f"offset {entry.offset}", what, "columns"))

    async def compare(self, db: AsyncConnection, state: StreamState) -> AsyncIterator[Fault]:
        for fault in self._odd:
            yield fault
        if self._told.created is None or state.earliest > 1:
            if state.earliest == 1:
                yield Fault("offset 1", "the session's first event does not say how it was created", "session")
            return  # what its rows repeat is not there any more
        row = (await db.execute(text(_SESSION), {"id": state.stream_id})).mappings().one_or_none()
        if row is None:
            yield Fault("session", "it has a stream, and no row", "session")
            return
        for fault in _compare_session(self._told, row, state):
            yield fault
        if not await _is_same_result(db, state, self._told.result, row["result"]):
            yield Fault("session", "the column result is not what its last event says", "session")
        if self._told.is_since_projects and not await db.scalar(text(_SUBMITTED), _submission(state, row)):
            yield Fault("session", "no event of the operators' stream says that it was submitted", "control")
        if self._told.continues is not None and not await _is_as_it_was(db, self._told.continues):
            yield Fault("session", "the session that it continues is not what its first event says", "session")
        async for fault in _compare_steps(db, state, self._told, row["reason"]):
            yield fault


def _submission(state: StreamState, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {"id": state.stream_id, "project": state.project, "epoch": row["epoch"], "xid": row["xid"]}


async def _is_as_it_was(db: AsyncConnection, parent: Mapping[str, Any]) -> bool:
    """Says whether the chain of the session that was continued is the one that was noted then, if it is still there."""
    noted = {"parent": parent["session_id"], "head": parent["head"]}
    found = (await db.execute(text(_CONTINUED), noted)).one_or_none()
    return found is None or found[0] == parent.get("head_chain")


def _compare_session(told: ToldSession, row: Mapping[Any, Any], state: StreamState) -> Iterator[Fault]:
    expected = told.columns | told.digests | {"status": told.status, "reason": told.reason}
    expected |= {"folded_superstep": told.superstep, "last_step": max(told.steps, default=0)}
    yield from _differing("session", "session", expected, row)
    for name, here, there in (
        ("status", row["status"], state.status),
        ("project", row["project"], state.project),
        ("workflow_name", row["workflow_name"], told.columns.get("workflow")),
    ):
        if here != there:
            yield Fault(name, f"the session's {name} is {here!r}, its stream says {there!r}", "session")
    yield from _differing_times("session", "session", row, created_at=told.created, ended_at=told.ended)


async def _compare_steps(
    db: AsyncConnection, state: StreamState, told: ToldSession, reason: str | None
) -> AsyncIterator[Fault]:
    missing, after, is_last = set(told.steps), 0, False
    while not is_last:
        rows = (await db.execute(text(_STEPS), {"id": state.stream_id, "after": after})).mappings().all()
        is_last = len(rows) < PAGE
        for row in rows:
            after = row["step"]
            step = told.steps.get(after)
            if step is None:
                yield Fault(f"step {after}", "no event tells of it", "steps")
                continue
            missing.discard(after)
            for fault in _compare_step(step, row, reason):
                yield fault
    for number in sorted(missing):
        yield Fault(f"step {number}", "it has no row", "steps")


def _compare_step(told: ToldStep, row: Mapping[Any, Any], reason: str | None) -> Iterator[Fault]:
    where = f"step {row['step']}"
    expected = {name: getattr(told, name) for name in ("superstep", "task_path", "agent", "queue", "status", "attempt")}
    expected |= {name: getattr(told, name) for name in ("worker", "commit", "question", "answer_schema", "answer")}
    yield from _differing(where, "steps", expected | {"update_data": told.update}, row)
    yield from _differing_times(where, "steps", row, started_at=told.started, ended_at=told.ended_at)
    if not _is_same_error(told, row, reason):
        yield Fault(where, "the column error is not what its last event says", "steps")
    if row["failures"] > told.failed + told.lost or row["lost"] > told.lost:
        what = f"{row['failures']} failures and {row['lost']} losses are counted, its events tell of "
        yield Fault(where, f"{what}{told.failed} and {told.lost}", "steps")


def _is_same_error(told: ToldStep, row: Mapping[Any, Any], reason: str | None) -> bool:
    error: str | None = row["error"]
    if told.status == "failed" and told.error is None:  # lost too often, which the session's end tells
        return is_as_told(f"step {row['step']} ({told.agent}) failed: {error}"[:MAX_ERROR_CHARACTERS], reason)
    if error is not None:
        error = error[:MAX_ERROR_CHARACTERS]  # where it is long the event has no more
    return error == told.error or (error is not None and error == told.error_before)


def _differing(where: str, check: Check, expected: Mapping[str, Any], row: Mapping[Any, Any]) -> Iterator[Fault]:
    for name, should in expected.items():
        if row[name] != should and not (name in NAMED and is_as_told(row[name], should)):
            stands = "" if name in {"task", "input", "context", "config", "options"} else f", {row[name]!r},"
            yield Fault(where, f"the column {name}{stands} is not what its events say", check)


def _differing_times(where: str, check: Check, row: Mapping[Any, Any], **told: At | None) -> Iterator[Fault]:
    """To within the time that a transaction may take."""
    for name, at in told.items():
        stands: datetime | None = row[name]
        if (at is None) != (stands is None):
            yield Fault(where, f"the column {name} is {stands}, its events say {at and at.ts}", check)
        elif at is not None and stands is not None and not at.may_be(stands):
            yield Fault(where, f"the column {name} is {stands}, its event is of {at.ts}", check)


async def _is_same_result(db: AsyncConnection, state: StreamState, told: Any, stands: str | None) -> bool:
    """What the event has only by reference is compared by its digest; of a large result, piece by piece."""
    if stands is None:
        return told is None
    result = orjson.loads(stands)
    if digest(result) == digest(told):
        return True
    try:
        told = await artifacts.fetch(db, state.stream_id, told)
    except (Altered, NotFound, TypeError, ValueError):
        return False
    if not isinstance(told, dict) or not isinstance(result, dict) or told.keys() != result.keys():
        return digest(result) == digest(told)
    return all(digest(told[name]) == digest(result[name]) for name in told)
