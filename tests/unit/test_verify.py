"""An export proves itself: whatever is changed in it is found, and said where."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadExport
from app.events import chain
from app.events.artifacts import named_by
from app.events.cursors import FeedPlace
from app.events.encoding import beside, encode
from app.events.proof import export
from app.events.proof.erasures import Erasures
from app.events.proof.export import ExportVerifier
from app.events.proof.order import Order
from app.events.proof.verify import ERASED, Entry, Verifier
from app.events.read import StreamState
from app.events.types import AgentEvent, StoredEvent, StreamId
from app.sessions.facts import agent_event

STREAM = StreamId(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
CONTENT = b'["something large"]'
DIGEST = hashlib.sha256(CONTENT).hexdigest()
BEGIN = datetime(2026, 11, 3, 12, 30, 1, 7, UTC)


def said(number: int) -> AgentEvent:
    return agent_event(
        agent="codesmith",
        phase="progress",
        msg=f'📡 step {number} "quoted" \u2028',
        progress=number,
        total=10.0,
        details={"event": {"offset": number}},
        step=1,
        attempt=1,
    )


def a_stream() -> tuple[StreamState, list[Entry]]:
    """Six events; the fourth names an artifact, the third is erased (which is told, and left out below), the last one
    closes the stream."""
    events: list[StoredEvent] = [
        {"t": "session_event", "status": "created", "task": "x", "input": {"offset": 1}},
        said(2),
        {"t": "erased_event"},
        {
            "t": "step_event",
            "step": 1,
            "agent": "codesmith",
            "status": "succeeded",
            "attempt": 1,
            "update": {"$artifact": DIGEST, "size": len(CONTENT)},
        },
        {"t": "workflow_event", "node": "codesmith", "delta": None},
        {"t": "session_event", "status": "succeeded", "reason": None, "result": {"patch_digest": None}},
    ]
    entries, link = [], chain.genesis(STREAM)
    for offset, event in enumerate(events, 1):
        data, salt, ts = encode(event, max_bytes=100_000), bytes([offset] * 16), BEGIN + timedelta(seconds=offset)
        digest = chain.digest(salt, data)
        if data == ERASED:
            salt, digest = b"", hashlib.sha256(b"what it was").digest()
        link = chain.link(link, offset, ts, digest)
        entries.append(Entry(offset, ts, data, salt, digest, link, beside(event)))
    return StreamState(STREAM, "session", 6, link, 1, True, "succeeded", 1), entries


STATE, ENTRIES = a_stream()


def written(entries: Sequence[Entry] = ENTRIES, state: StreamState = STATE) -> list[bytes]:
    lines = [export.header_line(state), *(export.event_line(state, entry) for entry in entries)]
    lines.append(export.artifact_line(DIGEST, CONTENT))
    return [*lines, export.seal_line(hashlib.sha256(b"".join(lines)).hexdigest())]


def faults(lines: Sequence[bytes], kept: bytes | None = None) -> list[str]:
    found = ExportVerifier(lines[0], kept=kept).check(lines[1:])
    return [str(fault) for fault in found if fault.check != "erasure"]


def erasures(lines: Sequence[bytes]) -> list[str]:
    found = ExportVerifier(lines[0]).check(lines[1:])
    return [str(fault) for fault in found if fault.check == "erasure"]


def changed(offset: int, **values: Any) -> list[Entry]:
    return [replace(entry, **values) if entry.offset == offset else entry for entry in ENTRIES]


def test_what_was_written_is_whole() -> None:
    verifier = ExportVerifier(written()[0])
    assert [fault.check for fault in verifier.check(written()[1:])] == ["erasure"]
    assert (verifier.stream.events, verifier.stream.erased, verifier.artifacts) == (6, [3], {DIGEST})


@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(data: st.DataObject) -> None:
    content = bytearray(b"".join(written()))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = faults(list(io.BytesIO(content)))
    except BadExport:
        assert position < len(written()[0])
    else:
        assert found


@given(st.integers(0, len(b"".join(written())) - 1))
def test_a_file_cut_off_anywhere_is_found(size: int) -> None:
    try:
        found = faults(list(io.BytesIO(b"".join(written())[:size])) or [b""])
    except BadExport:
        assert size < len(written()[0])
    else:
        assert any("cut off" in fault for fault in found)


@pytest.mark.parametrize("offset", range(1, 7))
def test_a_missing_line_is_named(offset: int) -> None:
    found = faults(written([entry for entry in ENTRIES if entry.offset != offset]))
    assert any(fault.startswith(f"offset {offset}: missing") for fault in found), found


@pytest.mark.parametrize("offset", range(1, 7))
def test_a_doubled_line_is_named(offset: int) -> None:
    entries = [copy for entry in ENTRIES for copy in [entry] * (1 + (entry.offset == offset))]
    assert faults(written(entries)) == [f"offset {offset}: stands after offset {offset}: doubled or out of order"]


@given(st.permutations(ENTRIES))
def test_another_order_is_found(entries: list[Entry]) -> None:
    assert bool(faults(written(entries))) == (entries != ENTRIES)


@pytest.mark.parametrize(
    ("column", "value"), [("t", "step_event"), ("agent", None), ("phase", "think"), ("step", 2), ("attempt", None)]
)
def test_a_changed_column_is_named(column: str, value: Any) -> None:
    columns = replace(ENTRIES[1].beside, **{column: value})
    (found,) = faults(written(changed(2, beside=columns)))
    assert found.startswith(f"offset 2: the column {column} says {value!r}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": ENTRIES[1].data.replace("step 2", "step 3")}, "data and salt do not give its digest"),
        ({"salt": bytes(16)}, "data and salt do not give its digest"),
        ({"digest": bytes(32)}, "data and salt do not give its digest"),
        ({"ts": BEGIN}, "the chain breaks"),
        ({"chain": bytes(32)}, "the chain breaks"),
    ],
)
def test_one_change_is_told_once(change: dict[str, Any], told: str) -> None:
    (found,) = faults(written(changed(2, **change)))
    assert found.startswith("offset 2: ") and told in found


def test_a_payload_passed_off_as_erased_is_found() -> None:
    erased = {"data": ERASED, "salt": b"", "beside": beside({"t": "erased_event"})}
    assert faults(written(changed(2, **erased))) == []
    assert erasures(written(changed(2, **erased))) == ["offsets 2 … 3: erased, and no event of an operator allows it"]
    assert faults(written(changed(2, **erased, digest=bytes(32))))
    assert faults(written(changed(3, salt=bytes(16))))


def test_a_whole_forgery_is_found_by_a_chain_that_was_kept() -> None:
    forged, link = [], chain.genesis(STREAM)
    for entry in ENTRIES:
        data = entry.data.replace("step 2", "step 7")
        digest = entry.digest if entry.is_erased else chain.digest(entry.salt, data)
        link = chain.link(link, entry.offset, entry.ts, digest)
        forged.append(replace(entry, data=data, digest=digest, chain=link))
    lines = written(forged, replace(STATE, head_chain=link))
    assert faults(lines) == []
    assert faults(lines, kept=ENTRIES[0].chain) == []  # nothing was changed up to there
    (found,) = faults(lines, kept=STATE.head_chain)
    assert "stands nowhere in this stream" in found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"head": 7}, "offset 7: missing at the end"),
        ({"head": 5}, "offset 6: past the head, which is 5"),
        ({"head_chain": bytes(32)}, "head: the chain at head"),
        ({"status": "failed"}, "status: the session is 'failed'"),
        ({"closed": False}, "status: the stream is open"),
        ({"stream_id": StreamId(UUID(int=1))}, "offset 1: the chain breaks"),
    ],
)
def test_what_is_said_of_the_stream_is_compared(change: dict[str, Any], told: str) -> None:
    state = replace(STATE, **change)
    found = faults(written(state=state))
    assert any(fault.startswith(told) for fault in found), found


def test_events_that_were_removed_or_erased_are_told_and_the_others_verify() -> None:
    state = replace(STATE, earliest=3)
    assert faults(written(ENTRIES[2:], state)) == []
    assert faults(written(ENTRIES[3:], state)) == ["offset 3: missing"]
    assert erasures(written()) == ["offset 3: erased, and no event of an operator allows it"]
    assert erasures(written(ENTRIES[2:], state)) == [
        "offsets 1 … 2: removed, and no event of an operator allows it",
        "offset 3: erased, and no event of an operator allows it",
    ]


def allowing(action: str, **details: Any) -> dict[str, Any]:
    return {"t": "control_event", "action": action, "outcome": "done", "target": str(STREAM), "details": details}


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([allowing("events.erase", offsets=[[2, 3]])], ["offsets 1 … 2"]),
        ([allowing("events.expire", earliest=3)], ["offset 3"]),
        ([allowing("events.expire", earliest=9), allowing("events.erase", offsets=[[3, 3]])], []),
        ([allowing("events.expire", earliest=2)], ["offsets 1 … 2", "offset 3"]),
        ([allowing("events.erase", offsets=[[4, 9], "3", [3], ["3", "3"]])], ["offsets 1 … 2", "offset 3"]),
        ([allowing("events.erase", offsets=3), allowing("events.expire")], ["offsets 1 … 2", "offset 3"]),
        ([allowing("events.expire", earliest=3) | {"outcome": "refused"}], ["offsets 1 … 2", "offset 3"]),
        ([allowing("events.expire", earliest=3) | {"target": str(UUID(int=1))}], ["offsets 1 … 2", "offset 3"]),
    ],
)
def test_an_operators_event_allows_what_it_names(events: list[dict[str, Any]], told: list[str]) -> None:
    allowed = Erasures()
    for event in events:
        allowed.take(event)
    verifier, state = Verifier(STREAM, earliest=3), replace(STATE, earliest=3)
    assert [fault for entry in ENTRIES[2:] for fault in verifier.check(entry)] == []
    assert [fault.where for fault in verifier.finish(state, allowed)] == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-2] + lines[-1:], f"offset 4: the artifact {DIGEST} that it names is missing"),
        (lambda lines: lines[:-1] + lines[-2:], f"artifact {DIGEST}: stands twice"),
        (
            lambda lines: [*lines[:-1], export.artifact_line("0" * 64, b""), lines[-1]],
            f"artifact {'0' * 64}: the content is not what its SHA-256 says",
        ),
        (lambda lines: [*lines[:-2], export.artifact_line(DIGEST, b"x"), lines[-1]], "the content is not"),
        (lambda lines: [*lines, lines[-1]], "line 10: stands after the seal"),
        (lambda lines: [*lines[:3], b'{"t":"agent_event"}\n', *lines[3:]], "line 4: is not what an export writes"),
        (lambda lines: [*lines[:3], lines[3].replace(b",", b", ", 1), *lines[4:]], "offset 3: it is written otherwise"),
    ],
)
def test_other_lines(change: Callable[[list[bytes]], list[bytes]], told: str) -> None:
    assert any(told in fault for fault in faults(change(written())))


@pytest.mark.parametrize("line", [b"", b"{}\n", b"no json\n", b"[1]\n", b'{"format":"stellwerk-export","version":2}\n'])
def test_what_is_no_export_is_refused(line: bytes) -> None:
    with pytest.raises(BadExport):
        ExportVerifier(line)


def test_an_empty_stream_is_whole() -> None:
    state = replace(STATE, head=0, head_chain=chain.genesis(STREAM), closed=False, status="created")
    verifier = Verifier(STREAM)
    assert list(verifier.finish(state)) == []
    assert list(verifier.finish(replace(state, head_chain=bytes(32)))) != []


def test_what_an_event_names() -> None:
    reference = {"$artifact": DIGEST, "size": 1}
    for event in (
        {"t": "step_event", "update": reference},
        {"t": "session_event", "result": reference},
        {"t": "session_event", "result": {"large": reference, "small": 1}},
        {"t": "session_event", "result": {"patch_digest": DIGEST}},
        {"t": "model_event", "request": {}, "response": reference},
        {"t": "tool_event", "arguments": reference, "answer": "short"},
    ):
        assert named_by(event) == [DIGEST]
    for event in (
        {"t": "agent_event", "details": reference},
        {"t": "step_event", "update": {"deep": reference}},
        {"t": "session_event", "result": {"patch_digest": None}},
        {"t": "session_event", "result": {"patch_digest": "a digest of its own kind"}},
    ):
        assert named_by(event) == []


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([(7, 5, 1), (7, 5, 2), (7, 9, 3), (7, 9, 40)], []),
        ([(7, 9, 1), (7, 5, 2)], ["offset 2: epoch and transaction fall, from 7-9 to 7-5"]),
        ([(7, 5, 2), (7, 6, 2)], ["offset 2: the position is 2, that of the event before is 2"]),
        ([(7, 5, 2), (7, 5, 1)], ["offset 2: the position is 1, that of the event before is 2"]),
        ([(7, 5, 1), (2, 6, 2)], ["offset 2: epoch and transaction fall, from 7-5 to 2-6", "offset 2: there is no"]),
        ([(1, 5, 1)], ["offset 1: it is of 2026-11-03 12:30:01.000007+00:00, when the database was not in epoch 1"]),
        ([(8, 5, 1)], ["offset 1: it is of 2026-11-03 12:30:01.000007+00:00, when the database was not in epoch 8"]),
        ([(9, 5, 1)], ["offset 1: there is no epoch 9"]),
    ],
)
def test_the_order_of_a_streams_events(places: list[tuple[int, int, int]], told: list[str]) -> None:
    began = [(1, BEGIN - timedelta(days=9)), (7, BEGIN - timedelta(hours=1)), (8, BEGIN + timedelta(hours=1))]
    order = Order()
    found = [fault for n, place in enumerate(places, 1) for fault in order.check(n, FeedPlace(*place), BEGIN)]
    said_of = [str(fault) for fault in [*found, *order.finish(began)]]
    assert len(said_of) == len(told) and all(map(str.startswith, said_of, told)), said_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("head", "earliest", "epoch") for value in ("1", 1.5, None, True, -1, 1 << 63)],
        ("kind", "sessions"),
        ("closed", "yes"),
        ("status", 7),
    ],
)
def test_a_header_of_another_shape_is_refused(name: str, value: object) -> None:
    header = orjson.loads(written()[0]) | {name: value}
    with pytest.raises(BadExport):
        ExportVerifier(orjson.dumps(header) + b"\n")
