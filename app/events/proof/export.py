"""A stream as a file that proves itself: JSON lines, verified without a database.

    header    format, version, the stream, its epoch, head and the chain at head
    events    one line each: offset, ts, salt, digest, chain, the columns beside, and `event`, which is the very
              text that SSE frames and pages carry
    artifacts the contents that events name, in base64
    seal      the SHA-256 of all bytes before: finds what was cut off, or damaged on the way

Each line can be written in one way only, so that no byte of it can change unseen. The seal protects against
accidents; against people only the chain does, and a head that was kept elsewhere.
"""

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.errors import BadExport, NotFound
from app.events.artifacts import get_artifact, named_by
from app.events.encoding import ID_KEYS, Beside, Recorded, format_ts
from app.events.proof.entries import read_entries
from app.events.proof.fault import Fault
from app.events.proof.verify import Entry, Verifier
from app.events.read import StreamState
from app.events.types import StreamId

MEDIA_TYPE = "application/x-ndjson"
FORMAT = "stellwerk-export"
VERSION = 1


async def export(engine: AsyncEngine, state: StreamState) -> AsyncGenerator[bytes, None]:
    """The lines, up to the head that `state` knows; the same bytes whenever it is asked."""
    seal = hashlib.sha256()
    async for line in _lines(engine, state):
        seal.update(line)
        yield line
    yield seal_line(seal.hexdigest())


async def _lines(engine: AsyncEngine, state: StreamState) -> AsyncIterator[bytes]:
    yield header_line(state)
    named: dict[str, None] = {}
    async for entry in read_entries(engine, state):
        yield event_line(state, entry)
        named |= dict.fromkeys(named_by(orjson.loads(entry.data)))
    for digest in named:
        try:
            async with transaction(engine) as db:
                artifact = await get_artifact(db, state.stream_id, bytes.fromhex(digest))
        except NotFound:
            continue  # the verifier of the file tells
        yield artifact_line(digest, artifact.content)


def header_line(state: StreamState) -> bytes:
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "stream_id": state.stream_id,
            "kind": state.kind,
            "epoch": state.epoch,
            "earliest": state.earliest,
            "head": state.head,
            "head_chain": state.head_chain.hex(),
            "closed": state.closed,
            "status": state.status,
        }
    )


def event_line(state: StreamState, entry: Entry) -> bytes:
    proof = {
        "offset": entry.offset,
        "ts": format_ts(entry.ts),
        "salt": entry.salt.hex(),
        "digest": entry.digest.hex(),
        "chain": entry.chain.hex(),
        "beside": entry.beside,
    }
    return orjson.dumps(proof)[:-1] + b',"event":' + _wire(state, entry).encode() + b"}\n"


def artifact_line(digest: str, content: bytes) -> bytes:
    return _line({"artifact": digest, "content": base64.b64encode(content).decode()})


def seal_line(digest: str) -> bytes:
    return _line({"seal": digest})


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _wire(state: StreamState, entry: Entry) -> str:
    columns = entry.beside
    return Recorded(
        state.stream_id, state.kind, entry.offset, entry.ts, columns.t, columns.agent, columns.phase, entry.data
    ).wire()


class ExportVerifier:
    """Verifies an export, line by line."""

    def __init__(self, first_line: bytes, *, kept: bytes | None = None) -> None:
        """Raises BadExport when this is no export that this version reads."""
        self.state = _read_header(first_line)
        self.stream = Verifier(self.state.stream_id, earliest=self.state.earliest, kept=kept)
        self.artifacts: set[str] = set()
        self._sum = hashlib.sha256(first_line)
        self._seal: str | None = None
        self._number = 1

    def check(self, lines: Iterable[bytes]) -> Iterator[Fault]:
        """`lines` are those after the first."""
        count = 0
        for fault in self._check(lines):
            count += fault.check != "erasure"  # such a file is as it was written
            yield fault
        if self._seal is None:
            yield Fault(f"line {self._number}", "the file is cut off here: the seal is missing")
        elif count == 0 and self._seal != self._sum.hexdigest():
            yield Fault("seal", "the file is not what was written: its header or its seal was changed")

    def _check(self, lines: Iterable[bytes]) -> Iterator[Fault]:
        for line in lines:
            self._number += 1
            if self._seal is not None:
                yield Fault(f"line {self._number}", "stands after the seal")
                continue
            try:
                yield from self._check_line(line)
            except ValueError as error:
                yield Fault(f"line {self._number}", f"is not what an export writes: {error}")
        yield from self.stream.finish(self.state)
        for digest, (offset, _) in self.stream.named.items():
            if digest not in self.artifacts:
                yield Fault(f"offset {offset}", f"the artifact {digest} that it names is missing", "artifacts")

    def _check_line(self, line: bytes) -> Iterator[Fault]:
        value = orjson.loads(line)
        match value:
            case {"seal": str(seal)}:
                _compare(line, seal_line(seal))
                self._seal = seal
                return
            case {"artifact": str(digest), "content": str(content)}:
                self._sum.update(line)
                decoded = base64.b64decode(content, validate=True)
                _compare(line, artifact_line(digest, decoded))
                yield from self._check_artifact(digest, decoded)
            case {"offset": int(), "event": dict()}:
                self._sum.update(line)
                yield from self.stream.check(self._read_event(line, value))
            case _:
                raise ValueError("it is neither an event nor an artifact nor the seal")

    def _check_artifact(self, digest: str, content: bytes) -> Iterator[Fault]:
        where = f"artifact {digest}"
        if hashlib.sha256(content).hexdigest() != digest:
            yield Fault(where, "the content is not what its SHA-256 says", "artifacts")
        if digest in self.artifacts:
            yield Fault(where, "stands twice", "artifacts")
        elif digest not in self.stream.named:
            yield Fault(where, "no event names it", "artifacts")
        self.artifacts.add(digest)

    def _read_event(self, line: bytes, value: dict[str, Any]) -> Entry:
        """Raises ValueError unless `event_line` gives this very line again."""
        offset = value["offset"]
        try:
            ts = datetime.fromisoformat(value["ts"])
            envelope = Recorded(self.state.stream_id, self.state.kind, offset, ts, "", None, None, "{").wire()
            _, _, wire = line.decode().partition(f',"event":{envelope}')
            entry = Entry(
                offset,
                ts,
                "{" + wire.removesuffix("}\n"),
                bytes.fromhex(value["salt"]),
                bytes.fromhex(value["digest"]),
                bytes.fromhex(value["chain"]),
                Beside(**value["beside"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"offset {offset}: {error!r}") from error
        _compare(line, event_line(self.state, entry), f"offset {offset}: ")
        return entry


def _compare(line: bytes, expected: bytes, where: str = "") -> None:
    if line != expected:
        raise ValueError(f"{where}it is cut off" if not line.endswith(b"\n") else f"{where}it is written otherwise")


def _read_header(line: bytes) -> StreamState:
    try:
        value = orjson.loads(line)
        if (value["format"], value["version"]) != (FORMAT, VERSION):
            raise BadExport(f"this is {value['format']} {value['version']}, not {FORMAT} {VERSION}")
        state = StreamState(
            StreamId(UUID(value["stream_id"])),
            value["kind"],
            value["head"],
            bytes.fromhex(value["head_chain"]),
            value["earliest"],
            value["closed"],
            value["status"],
            value["epoch"],
        )
        _check_header(state)
        _compare(line, header_line(state))
    except (ValueError, KeyError, TypeError) as error:
        raise BadExport(f"the first line is not the header of an export: {error}") from error
    return state


def _check_header(state: StreamState) -> None:
    """Raises ValueError where its numbers are none that a stream has."""
    numbers = {"epoch": (state.epoch, 1), "earliest": (state.earliest, 1), "head": (state.head, 0)}
    for name, (number, least) in numbers.items():
        if type(number) is not int or not least <= number < 1 << 63:
            raise ValueError(f"its {name} is {number!r}")
    if state.kind not in ID_KEYS or type(state.closed) is not bool or not isinstance(state.status, str | None):
        raise ValueError("its kind, closed or status is none that a stream has")
