"""Verifying that a stream is what was written: offsets, digests, chain, columns. Pure: entries in, faults out.

Needs nothing but the entries themselves, so that it works on an export as on the database.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.events import artifacts, chain
from app.events.encoding import Beside, beside
from app.events.read import StreamState
from app.events.types import TERMINAL

ERASED = '{"t":"erased_event"}'
"""The text of an event that was erased. Its salt is gone, too (empty); its digest stays, and so the chain holds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event with what proves it."""

    offset: int
    ts: datetime
    data: str
    salt: bytes
    digest: bytes
    chain: bytes
    beside: Beside

    @property
    def is_erased(self) -> bool:
        return self.data == ERASED and not self.salt


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Verifier:
    """Takes a stream's entries in order, then what is said of the stream as a whole.

    `kept` is a chain that was kept elsewhere from an earlier (or this) head: it must stand in the stream.
    """

    def __init__(self, stream_id: UUID, *, earliest: int = 1, kept: bytes | None = None) -> None:
        self.events = self.erased = 0
        self.kept_at: int | None = None
        self.named: dict[str, int] = {}
        """Artifacts, by SHA-256 in hexadecimal, and the first offset that names each."""
        self._next = earliest
        self._kept = kept
        self._last_chain = b""
        self._last_status: object = None
        self._last_is_status = False
        # The chains that the next link may go on from; none where what was before is not here. After a break
        # both the stored chain and the one that should stand there, so that one fault is told once.
        self._before: tuple[bytes, ...] = ()
        if earliest == 1:
            self._link(0, chain.genesis(stream_id))

    def check(self, entry: Entry) -> Iterator[Fault]:
        where = f"offset {entry.offset}"
        if entry.offset < self._next:
            yield Fault(where, f"stands after offset {self._next - 1}: doubled or out of order")
            return
        if entry.offset > self._next:
            yield Fault(_span(self._next, entry.offset - 1), "missing")
            self._before = ()
        self._next = entry.offset + 1
        self.events += 1
        self.erased += entry.is_erased
        yield from self._check_chain(where, entry)
        yield from self._check_content(where, entry)

    def _check_chain(self, where: str, entry: Entry) -> Iterator[Fault]:
        digests = [entry.digest]
        if not entry.is_erased and (digest := chain.digest(entry.salt, entry.data)) != entry.digest:
            yield Fault(where, "data and salt do not give its digest")
            digests.append(digest)  # perhaps only the digest was changed
        links = [chain.link(before, entry.offset, entry.ts, d) for before in self._before for d in digests]
        if links and entry.chain not in links:
            yield Fault(where, "the chain breaks: its time, digest or link, or what was before, was changed")
            self._link(entry.offset, entry.chain, links[0])
        else:
            self._link(entry.offset, entry.chain)

    def _link(self, offset: int, stored: bytes, *others: bytes) -> None:
        self._last_chain = stored
        self._before = (stored, *others)
        if stored == self._kept:
            self.kept_at = offset

    def _check_content(self, where: str, entry: Entry) -> Iterator[Fault]:
        try:
            event = orjson.loads(entry.data)
        except orjson.JSONDecodeError as error:
            yield Fault(where, f"data is no JSON: {error}")
            return
        if not isinstance(event, dict) or not isinstance(event.get("t"), str):
            yield Fault(where, "data is no event")
            return
        for field in fields(Beside):
            stands, should = getattr(entry.beside, field.name), getattr(beside(event), field.name)
            if stands != should:
                yield Fault(where, f"the column {field.name} says {stands!r}, data says {should!r}")
        for digest in artifacts.named_by(event):
            self.named.setdefault(digest, entry.offset)
        self._take_status(event)

    def _take_status(self, event: dict[str, Any]) -> None:
        self._last_is_status = event.get("t") == "session_event"
        if self._last_is_status:
            self._last_status = event.get("status")

    def finish(self, state: StreamState) -> Iterator[Fault]:
        """Compares with the stream's own row (or an export's header)."""
        if self._next <= state.head:
            yield Fault(_span(self._next, state.head), "missing at the end")
        elif self._next > state.head + 1:
            yield Fault(_span(state.head + 1, self._next - 1), f"past the head, which is {state.head}")
        elif self._last_chain and self._last_chain != state.head_chain:
            yield Fault("head", "the chain at head is not that of the last event")
        if state.kind == "session":
            yield from self._check_status(state)
        if self._kept is not None and self.kept_at is None:
            yield Fault("head", f"the chain that was kept, {self._kept.hex()}, stands nowhere in this stream")

    def _check_status(self, state: StreamState) -> Iterator[Fault]:
        if self._last_status not in {None, state.status}:
            yield Fault("status", f"the session is {state.status!r}, its last session_event says {self._last_status!r}")
        ends = self._last_is_status and self._last_status in TERMINAL
        if self.events and state.closed != ends:
            closed = "closed" if state.closed else "open"
            yield Fault("status", f"the stream is {closed}, its last event says otherwise")


def _span(first: int, last: int) -> str:
    return f"offset {first}" if first == last else f"offsets {first} … {last}"
