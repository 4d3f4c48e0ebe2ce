"""Verifying that a stream is what was written: offsets, digests, chain, columns. Pure: entries in, faults out.

Needs nothing but the entries themselves, so that it works on an export as on the database.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.events import artifacts, chain
from app.events.encoding import Beside, beside
from app.events.proof.erasures import Erasures
from app.events.proof.fault import Fault, span
from app.events.read import StreamState
from app.events.types import TERMINAL, StreamKind

ERASED = '{"t":"erased_event"}'
"""The text of an event that was erased. Its salt is gone, too (empty); its digest stays, and so the chain holds."""

OF_KIND: Mapping[StreamKind, str] = {"batch": "batch_event", "operators": "control_event", "heads": "heads_event"}
"""What streams of a kind hold and no others do; a session's has all other kinds of events."""
_SPECIAL = frozenset(OF_KIND.values())


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


Watch = Callable[[Entry, dict[str, Any]], object]


class Verifier:
    """Takes a stream's entries in order, then what is said of the stream as a whole.

    `kept` is a chain that was kept elsewhere from an earlier (or this) head: it must stand in the stream. `watch` is
    called with each entry and its event.
    """

    def __init__(
        self, stream_id: UUID, *, earliest: int = 1, kept: bytes | None = None, watch: Watch | None = None
    ) -> None:
        self.events = 0
        self.erased: list[int] = []
        self.kept_at: int | None = None
        self.last_ts: datetime | None = None
        self.named: dict[str, tuple[int, str]] = {}
        """Artifacts by SHA-256 in hexadecimal: the first offset that names each, and its media type."""
        self.allowed = Erasures()
        """What the stream itself allows to be gone."""
        self._stream_id = stream_id
        self._next = earliest
        self._kept = kept
        self._watch = watch
        self._kinds = set[str]()
        self._last_chain = b""
        self._last_status: object = None
        self._last_is_status = False
        # The chains that the next link may go on from; none where what was before is not here. After a break
        # both the stored chain and the one that should stand there, so that one fault is told once.
        self._before: tuple[bytes, ...] = ()
        if earliest == 1:
            self._link(0, chain.genesis(stream_id))

    def check(self, entry: Entry) -> list[Fault]:
        """No generators here and below: an event in which there is nothing to tell takes half the time."""
        faults: list[Fault] = []
        if entry.offset < self._next:
            what = f"stands after offset {self._next - 1}: doubled or out of order"
            return [Fault(f"offset {entry.offset}", what, "offsets")]
        if entry.offset > self._next:
            faults.append(Fault(span(self._next, entry.offset - 1), "missing", "offsets"))
            self._before = ()
        self._next = entry.offset + 1
        self.events += 1
        self.last_ts = entry.ts
        self._check_chain(entry, faults)
        self._check_content(entry, faults)
        return faults

    def _check_chain(self, entry: Entry, faults: list[Fault]) -> None:
        digests = [entry.digest]
        if not entry.is_erased and (digest := chain.digest(entry.salt, entry.data)) != entry.digest:
            faults.append(Fault(f"offset {entry.offset}", "data and salt do not give its digest"))
            digests.append(digest)  # perhaps only the digest was changed
        links = [chain.link(before, entry.offset, entry.ts, d) for before in self._before for d in digests]
        if links and entry.chain not in links:
            what = "the chain breaks: its time, digest or link, or what was before, was changed"
            faults.append(Fault(f"offset {entry.offset}", what))
            self._link(entry.offset, entry.chain, links[0])
        else:
            self._link(entry.offset, entry.chain)

    def _link(self, offset: int, stored: bytes, *others: bytes) -> None:
        self._last_chain = stored
        self._before = (stored, *others)
        if stored == self._kept:
            self.kept_at = offset

    def _check_content(self, entry: Entry, faults: list[Fault]) -> None:
        where = f"offset {entry.offset}"
        try:
            event = orjson.loads(entry.data)
        except orjson.JSONDecodeError as error:
            faults.append(Fault(where, f"data is no JSON: {error}", "columns"))
            return
        if not isinstance(event, dict) or not isinstance(event.get("t"), str):
            faults.append(Fault(where, "data is no event", "columns"))
            return
        if entry.beside != (expected := beside(event)):
            for field in fields(Beside):
                stands, should = getattr(entry.beside, field.name), getattr(expected, field.name)
                if stands != should:
                    what = f"the column {field.name} says {stands!r}, data says {should!r}"
                    faults.append(Fault(where, what, "columns"))
        self._take(entry, event)

    def _take(self, entry: Entry, event: dict[str, Any]) -> None:
        for digest, media_type in artifacts.media_types_of(event):
            self.named.setdefault(digest, (entry.offset, media_type))
        t = event["t"]
        self._kinds.add(t)
        self._last_is_status = t == "session_event"
        if self._last_is_status:
            self._last_status = event.get("status")
        elif t == "control_event":
            self.allowed.take(event)
        elif t == "erased_event":
            self.erased.append(entry.offset)
        if self._watch is not None:
            self._watch(entry, event)

    def finish(self, state: StreamState, allowed: Erasures | None = None) -> Iterator[Fault]:
        """Compares with the stream's own row (or an export's header), and with what was `allowed` to be gone.

        By default that is what the stream itself allows.
        """
        if self._next <= state.head:
            yield Fault(span(self._next, state.head), "missing at the end", "offsets")
        elif self._next > state.head + 1:
            what = f"past the head, which is {state.head}"
            yield Fault(span(state.head + 1, self._next - 1), what, "offsets")
        elif self._last_chain and self._last_chain != state.head_chain:
            yield Fault("head", "the chain at head is not that of the last event")
        yield from self._check_erasures(state, allowed or self.allowed)
        if state.kind == "session":
            yield from self._check_status(state)
        if self._kept is not None and self.kept_at is None:
            yield Fault("head", f"the chain that was kept, {self._kept.hex()}, stands nowhere in this stream")
        of_kind = OF_KIND.get(state.kind)
        for t in sorted(self._kinds - {"erased_event"}):
            if t != of_kind and (t in _SPECIAL or of_kind is not None):
                yield Fault("kind", f"the stream is of the kind {state.kind!r}, and holds a {t}", "stream")

    def _check_erasures(self, state: StreamState, allowed: Erasures) -> Iterator[Fault]:
        if state.earliest > allowed.earliest(self._stream_id):
            yield Fault(span(1, state.earliest - 1), "removed, and no event of an operator allows it", "erasure")
        for first, last in allowed.forbidden(self._stream_id, self.erased):
            yield Fault(span(first, last), "erased, and no event of an operator allows it", "erasure")

    def _check_status(self, state: StreamState) -> Iterator[Fault]:
        if self._last_status not in {None, state.status}:
            what = f"the session is {state.status!r}, its last session_event says {self._last_status!r}"
            yield Fault("status", what, "stream")
        ends = self._last_is_status and self._last_status in TERMINAL
        if self.events and state.closed != ends:
            closed = "closed" if state.closed else "open"
            yield Fault("status", f"the stream is {closed}, its last event says otherwise", "stream")
