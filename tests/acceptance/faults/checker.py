"""What must hold, decided from what producers were told, what readers got, and what Postgres holds.

It knows the promises (offsets, chain, wire format, statuses) and nothing of how they are kept.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.acceptance.faults.feed import Feed
from tests.acceptance.faults.history import History, Row
from tests.acceptance.faults.ledger import Entry
from tests.acceptance.faults.load import Asked, Load
from tests.acceptance.faults.readers import Readers, fingerprint
from tests.acceptance.faults.verdict import Verdict
from tests.acceptance.faults.workload import DOOM, expected, steps_of


def check(history: History, ledger: Iterable[Entry], load: Load, readers: Readers, feed: Feed) -> list[Verdict]:
    return [
        _acknowledged(history, list(ledger)),
        _dense(history),
        _read(history, readers),
        _ended(history, load),
        _steps(history, load),
        _fenced(history),
        _fed(history, feed),
    ]


def _acknowledged(history: History, ledger: list[Entry]) -> Verdict:
    """Every acknowledged event is in the log once, where it was said to be; no other one is there twice."""
    placed: dict[str, list[Row]] = defaultdict(list)
    for rows in history.rows.values():
        for row in rows:
            if row.t == "agent_event" and (key := row.content.get("details", {}).get("key")):
                placed[key].append(row)
    violations = [f"{key} is in the log {len(rows)} times" for key, rows in placed.items() if len(rows) > 1]
    acknowledged = [entry for entry in ledger if entry.offset is not None]
    for entry in acknowledged:
        match placed.get(entry.key, []):
            case []:
                violations.append(f"{entry} was acknowledged and is not in the log")
            case [row, *_]:
                expected_place = (entry.session_id, entry.offset, entry.step, entry.attempt, entry.message)
                if (row.stream_id, row.offset, row.step, row.attempt, row.content["msg"]) != expected_place:
                    violations.append(f"{entry} is in the log as {row}")
    tried = {entry.key for entry in ledger}
    violations += [f"{key} is in the log and was never reported" for key in placed.keys() - tried]
    looked_at = f"{len(acknowledged)} acknowledged, {len(tried) - len(acknowledged)} without an answer"
    return Verdict("acknowledged events are in the log once, others at most once", looked_at, tuple(violations))


def _dense(history: History) -> Verdict:
    violations = []
    for stream in history.streams.values():
        chain = hashlib.sha256(UUID(stream.stream_id).bytes).digest()
        rows = history.rows.get(stream.stream_id, [])
        if [row.offset for row in rows] != list(range(1, stream.head + 1)):
            violations.append(f"{stream.stream_id}: offsets are not 1 … {stream.head}")
        for row in rows:
            digest = hashlib.sha256(row.salt + row.data.encode()).digest()
            microseconds = (row.ts - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            place = row.offset.to_bytes(8, "big") + microseconds.to_bytes(8, "big", signed=True)
            chain = hashlib.sha256(chain + place + digest).digest()
            if row.chain != chain:
                violations.append(f"{stream.stream_id}: the chain is broken at {row.offset}")
                break
        if stream.head_chain != chain:
            violations.append(f"{stream.stream_id}: the chain at the head is another one")
    looked_at = f"{len(history.streams)} streams, {history.events} events"
    return Verdict("offsets are 1 … head, and the chain verifies", looked_at, tuple(violations))


def _read(history: History, readers: Readers) -> Verdict:
    """Each reader's view is the whole stream, byte for byte; gaps and repeats were noted while it read."""
    violations = []
    prints = {stream_id: [fingerprint(row.wire()) for row in rows] for stream_id, rows in history.rows.items()}
    for view in readers.views:
        violations += [f"{view.session_id} ({view.manner}): {fault}" for fault in view.faults]
        if view.seen != prints.get(view.session_id):
            have, want = len(view.seen), len(prints.get(view.session_id, []))
            violations.append(f"{view.session_id} ({view.manner}): read {have} of {want} events, or other bytes")
        if view.ended is None:
            violations.append(f"{view.session_id} ({view.manner}): never saw the end")
    seen = sum(len(view.seen) + view.checked for view in readers.views)
    looked_at = f"{len(readers.views)} readers, {seen} events, {readers.reconnections} connections"
    return Verdict("readers got every byte once and in order, across all connections", looked_at, tuple(violations))


def _ended(history: History, load: Load) -> Verdict:
    violations = list[str]()
    by_task: dict[str, list[str]] = defaultdict(list)
    for session in history.sessions.values():
        by_task[session.task].append(session.session_id)
    for asked in load.asked.values():
        ids = by_task.pop(asked.key, [])
        if len(ids) > 1 or (asked.session_id is not None and ids != [asked.session_id]):
            violations.append(f"{asked} became {ids}")
        for session_id in ids:
            violations += _end_of(history, session_id, asked)
    violations += [f"nobody asked for {ids}" for ids in by_task.values()]
    return Verdict("sessions end once, as their workflow says", f"{len(history.sessions)} sessions", tuple(violations))


def _end_of(history: History, session_id: str, asked: Asked) -> Iterator[str]:
    session = history.sessions[session_id]
    status, total, passed = expected(asked.workflow, asked.given)
    if session.status != status:
        yield f"{session_id} ended {session.status}, not {status}: {session.reason}"
        return
    if status == "failed" and DOOM not in (session.reason or ""):
        yield f"{session_id} failed for another reason: {session.reason}"
    if status == "succeeded":
        result = session.result
        if (result.get("total"), sorted(result["passed"])) != (total, passed):
            yield f"{session_id} has the result {result}, not {total}, {passed}"
    last = history.rows[session_id][-1]
    if last.t != "session_event" or last.content["status"] != status or not history.streams[session_id].closed:
        yield f"{session_id}: behind its end there is more, or its stream is open"


def _steps(history: History, load: Load) -> Verdict:
    violations, count = [], 0
    asked_for = {asked.key: asked for asked in load.asked.values()}
    for session in history.sessions.values():
        succeeded: dict[int, int] = defaultdict(int)
        for row in history.rows[session.session_id]:
            if row.t == "step_event" and row.step is not None:
                succeeded[row.step] += row.content["status"] == "succeeded"
        count += len(succeeded)
        asked = asked_for.get(session.task)
        if asked is None or (asked.workflow == "files" and session.status == "failed"):
            continue
        steps = steps_of(asked.workflow, asked.given)
        failed = {steps} if session.status == "failed" else set()  # the doomed one is the last
        if dict(succeeded) != {step: int(step not in failed) for step in range(1, steps + 1)}:
            violations.append(f"{session.session_id}: successful attempts by step are {dict(succeeded)}")
    return Verdict("every step has exactly one successful attempt", f"{count} steps", tuple(violations))


def _fenced(history: History) -> Verdict:
    """Between an attempt's `running` and its end; nothing before, nothing after."""
    violations, attempts = [], 0
    for stream_id, rows in history.rows.items():
        running: set[tuple[int, int]] = set()
        for row in rows:
            if row.step is None or row.attempt is None:
                continue
            attempt = (row.step, row.attempt)
            if row.t == "step_event":
                status = row.content["status"]
                if status == "running":
                    running.add(attempt)
                    attempts += 1
                elif status in {"succeeded", "failed", "lost", "waiting"}:
                    if attempt not in running:
                        violations.append(f"{stream_id}: {attempt} ended at {row.offset} without running")
                    running.discard(attempt)
            elif row.t == "agent_event" and attempt not in running:
                violations.append(f"{stream_id}: {attempt} wrote {row.offset} without a lease")
            if len([step for step, _ in running if step == row.step]) > 1:
                violations.append(f"{stream_id}: two attempts of {row.step} run at {row.offset}")
    return Verdict("no attempt wrote without its lease", f"{attempts} attempts", tuple(violations))


def _fed(history: History, feed: Feed) -> Verdict:
    """What came is each stream, byte for byte; gaps and repeats were noted while it read."""
    violations = list(feed.faults)
    for stream in history.fed.values():
        prints = [fingerprint(row.wire(stream.kind)) for row in history.rows.get(stream.stream_id, [])]
        if (seen := feed.seen.get(stream.stream_id, [])) != prints:
            violations.append(f"{stream.stream_id}: the feed had {len(seen)} of {len(prints)} events, or other bytes")
    looked_at = f"{feed.events} events of {len(history.fed)} streams, {feed.reconnections} connections"
    return Verdict(
        "the feed of all streams skips and repeats nothing, and keeps their order", looked_at, tuple(violations)
    )
