"""Comparing keys, and what there should be, with what an operators' stream says that was done."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.proof.fault import Fault
from app.events.proof.order import MARGIN
from app.events.proof.veiled import is_as_told
from app.events.proof.verify import Entry
from app.events.read import StreamState
from app.principals import repository

PAGE = 1000
_KEYS = """
SELECT key_id::text, name, scopes, created_at, created_by, expires_at, revoked_at, successor::text,
       encode(digest, 'hex') AS digest
FROM keys WHERE project = :project ORDER BY key_id
"""
_GONE = """
SELECT target FROM unnest(CAST(:targets AS uuid[])) AS target
WHERE NOT EXISTS (SELECT FROM streams WHERE stream_id = target)
"""


@dataclass(slots=True)
class ToldKey:
    """A key as the log tells it. None: it was not told, or, of `revoked` and `successor`, did not happen."""

    name: str
    scopes: list[str] | None
    created: datetime
    created_by: str | None
    expires_at: datetime | None
    is_expiry_told: bool
    digest: str | None
    revoked: datetime | None = None
    successor: str | None = None


class OperatorsCheck:
    """Takes the events of a project's operators' stream."""

    def __init__(self) -> None:
        self._keys: dict[str, ToldKey] = {}
        self._sign_outs = 0
        self._targets = bytearray()
        """The sessions that were submitted, 16 bytes each: there may be millions."""
        self._odd: list[Fault] = []

    def take(self, entry: Entry, event: dict[str, Any]) -> None:
        if event["t"] != "control_event" or event.get("outcome") not in {"done", "unchanged"}:
            return
        try:
            self._take(entry.ts, event)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            what = f"it is not a control_event as the log has them: {error!r}"
            self._odd.append(Fault(f"offset {entry.offset}", what, "columns"))

    def _take(self, ts: datetime, event: Mapping[str, Any]) -> None:
        details = event.get("details") or {}
        match event["action"], event["outcome"]:
            case "session.create", _:
                self._targets += UUID(event["target"]).bytes
            case "login.revoke", "done":
                self._sign_outs += 1
            case "key.create", "done":
                self._keys[event["target"]] = _made(ts, event, details, details["scopes"])
            case "key.revoke", "done":
                self._keys[event["target"]].revoked = ts
            case "key.rotate", "done":
                old = self._keys[event["target"]]
                old.successor = details["successor"]
                ends = ts + timedelta(seconds=details["valid_for_seconds"])
                old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
                self._keys[details["successor"]] = _made(ts, event, details, old.scopes)
            case _:
                pass

    async def compare(self, db: AsyncConnection, state: StreamState) -> AsyncIterator[Fault]:
        for fault in self._odd:
            yield fault
        async for fault in self._compare_sessions(db):
            yield fault
        if state.earliest > 1:
            return  # keys may be older than what is there
        counted = (await repository.sign_outs(db)).get(state.project, 0)
        if counted != self._sign_outs:
            what = f"browsers were signed out {self._sign_outs} time(s), and {counted} are counted"
            yield Fault(f"project {state.project}", what, "keys")
        rows = {row["key_id"]: row for row in (await db.execute(text(_KEYS), {"project": state.project})).mappings()}
        for key_id, row in rows.items():
            told = self._keys.get(key_id)
            if told is None:
                yield Fault(f"key {key_id}", f"no event says that {row['name']!r} was made", "keys")
                continue
            for what in _differing(told, row):
                yield Fault(f"key {key_id}", f"{row['name']!r}: {what}", "keys")
        for key_id in self._keys.keys() - rows.keys():
            yield Fault(f"key {key_id}", f"{self._keys[key_id].name!r} was made, and is not there", "keys")

    async def _compare_sessions(self, db: AsyncConnection) -> AsyncIterator[Fault]:
        for first in range(0, len(self._targets), 16 * PAGE):
            page = self._targets[first : first + 16 * PAGE]
            targets = [UUID(bytes=bytes(page[at : at + 16])) for at in range(0, len(page), 16)]
            for target in await db.scalars(text(_GONE), {"targets": targets}):
                yield Fault(f"session {target}", "it was submitted, and is not there", "control")


def _made(ts: datetime, event: Mapping[str, Any], details: Mapping[str, Any], scopes: list[str] | None) -> ToldKey:
    said = details.get("expires_at")
    expires_at = None if said is None else datetime.fromisoformat(said)
    if expires_at is not None and expires_at.tzinfo is None:
        raise ValueError(f"{said!r} has no zone")
    return ToldKey(
        name=details["name"],
        scopes=scopes,
        created=ts,
        created_by=event["principal"],
        expires_at=expires_at,
        is_expiry_told="expires_at" in details,
        digest=details.get("digest"),
    )


def _differing(told: ToldKey, row: Mapping[Any, Any]) -> Iterator[str]:
    for name, should in (
        ("scopes", told.scopes),
        ("created_by", told.created_by),
        ("successor", told.successor),
        ("digest", told.digest or row["digest"]),
    ):
        if row[name] != should:
            yield f"the column {name} is {row[name]!r}, its events say {should!r}"
    if not is_as_told(row["name"], told.name):
        yield f"the column name is {row['name']!r}, its events say {told.name!r}"
    if not _is_near(row["created_at"], told.created):
        yield f"the column created_at is {row['created_at']}, its event is of {told.created}"
    if told.is_expiry_told and not _is_near(row["expires_at"], told.expires_at):
        yield f"the column expires_at is {row['expires_at']}, its events say {told.expires_at}"
    # A key that has expired gives its name up to another one, and is revoked as of then.
    is_given_up = row["revoked_at"] is not None and row["revoked_at"] == row["expires_at"]
    if not is_given_up and not _is_near(row["revoked_at"], told.revoked):
        yield f"the column revoked_at is {row['revoked_at']}, its events say {told.revoked}"


def _is_near(one: datetime | None, other: datetime | None) -> bool:
    """They are the same to within the time that a transaction may take."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= MARGIN
