"""Exports and verification against a real Postgres, through the commands and over HTTP."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.database import transaction
from app.events import read
from app.events.proof import entries
from app.events.proof.export import ExportVerifier
from app.events.proof.heads import LOOKED_AT, record_heads
from app.events.proof.verify import ERASED
from app.events.types import DEFAULT_PROJECT, HEADS_STREAM, StreamId
from app.principals.control import control_in_project, operators_stream
from app.principals.model import DEPLOYMENT, OWNER, Control
from app.progress import SessionId
from app.sessions import verifying
from tests.populating import Population, populate
from tests.roles import tampering
from tests.serving import Served, serving
from tests.stacks import stellwerk


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
async def population(served: Served) -> Population:
    return await populate(served.gateway.backends)


async def faults(served: Served, stream_id: SessionId) -> list[str]:
    return [str(fault) async for fault in verifying.verify(served.gateway.engine, stream_id)]


async def change(served: Served, statement: str, **parameters: Any) -> None:
    async with tampering(served.gateway.engine) as db:
        result = await db.execute(text(statement), parameters)
        assert result.rowcount == 1


async def test_every_session_is_whole_and_its_export_too(served: Served, population: Population) -> None:
    for session_id in (*population.open, *population.closed):
        assert await faults(served, session_id) == []
        answer = await served.client.get(f"/sessions/{session_id}/export")
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [line + b"\n" for line in answer.content.split(b"\n")[:-1]]
        page = (await served.client.get(f"/sessions/{session_id}/events", params={"limit": 1000})).text
        verifier = ExportVerifier(lines[0], kept=bytes.fromhex(head_chain_of(page)))
        assert list(verifier.check(lines[1:])) == []
        assert verifier.stream.events == verifier.state.head == verifier.stream.kept_at
        for line in lines[1 : verifier.state.head + 1]:
            event = line.decode().partition(',"event":')[2].removesuffix("}\n")
            assert event in page  # the very text


def head_chain_of(page: str) -> str:
    return page.partition('"head_chain":"')[2].partition('"')[0]


async def test_large_contents_go_along(served: Served, population: Population) -> None:
    answer = await served.client.get(f"/sessions/{population.succeeded}/export")
    lines = [line + b"\n" for line in answer.content.split(b"\n")[:-1]]
    verifier = ExportVerifier(lines[0])
    assert list(verifier.check(lines[1:])) == []
    assert len(verifier.artifacts) == 2  # the step's update, which is the delta too, and the patch


@pytest.mark.parametrize(
    ("changes", "where", "told"),
    [
        ("data = json(replace(data::text, 'half', 'full'))", 5, "data and salt do not give its digest"),
        ("salt = '\\x00'", 5, "data and salt do not give its digest"),
        ("digest = sha256('')", 5, "data and salt do not give its digest"),
        ("chain = sha256('')", 5, "the chain breaks"),
        ("ts = ts + interval '1 microsecond'", 5, "the chain breaks"),
        ("agent = 'somebody'", 5, "the column agent says 'somebody', data says 'architect'"),
        ("phase = NULL", 5, "the column phase says None, data says 'progress'"),
        ("step = 7", 5, "the column step says 7, data says 1"),
        ("attempt = 7", 5, "the column attempt says 7, data says 1"),
        ("t = 'step_event'", 5, "the column t says 'step_event', data says 'agent_event'"),
    ],
)
async def test_a_changed_event_is_found(
    served: Served, population: Population, changes: str, where: int, told: str
) -> None:
    statement = f'UPDATE events SET {changes} WHERE stream_id = :id AND "offset" = :offset'
    await change(served, statement, id=population.failed, offset=where)
    found = await faults(served, population.failed)
    assert found == [f"offset {where}: {told}"] or (len(found) == 1 and found[0].startswith(f"offset {where}: {told}"))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM events WHERE stream_id = :id AND \"offset\" = 2", "offset 2: missing"),
        ("DELETE FROM events WHERE stream_id = :id AND \"offset\" = (SELECT head FROM streams WHERE stream_id = :id)",
         "missing at the end"),
        ("UPDATE streams SET head = head - 1 WHERE stream_id = :id", "head: the chain at head"),
        ("UPDATE streams SET head_chain = sha256('') WHERE stream_id = :id", "head: the chain at head"),
        ("UPDATE streams SET closed = false WHERE stream_id = :id", "status: the stream is open"),
        ("UPDATE sessions SET status = 'failed' WHERE session_id = :id", "status: the session's status is 'failed'"),
        ("UPDATE streams SET status = 'failed' WHERE stream_id = :id", "status: the session is 'failed'"),
        ("UPDATE streams SET project = 'another' WHERE stream_id = :id", "project: the session's project is 'default'"),
        ("UPDATE artifacts SET content = 'x' WHERE stream_id = :id AND media_type = 'text/x-diff'", "artifact "),
        ("DELETE FROM artifacts WHERE stream_id = :id AND media_type = 'text/x-diff'", "that it names is missing"),
    ],
)  # fmt: skip
async def test_what_is_changed_around_events_is_found(
    served: Served, population: Population, statement: str, told: str
) -> None:
    await change(served, statement, id=population.succeeded)
    assert any(told in fault for fault in await faults(served, population.succeeded))


async def test_an_erased_event_verifies_where_an_operator_allowed_it(served: Served, population: Population) -> None:
    erase = (
        "UPDATE events SET t = 'erased_event', data = CAST(:data AS json), salt = '', agent = NULL, phase = NULL,"
        ' step = NULL, attempt = NULL WHERE stream_id = :id AND "offset" = 5'
    )
    await change(served, erase, id=population.failed, data=ERASED)
    assert await faults(served, population.failed) == ["offset 5: erased, and no event of an operator allows it"]
    control = Control("events.erase", OWNER, str(population.failed), details={"offsets": [[5, 5]]})
    async with control_in_project(served.gateway.backends, DEFAULT_PROJECT, control):
        pass
    assert await faults(served, population.failed) == []
    lines = (await served.client.get(f"/sessions/{population.failed}/export")).content.splitlines(keepends=True)
    verifier = ExportVerifier(lines[0])
    assert [fault.check for fault in verifier.check(lines[1:])] == ["erasure"] and verifier.stream.erased == [5]


async def test_streams_are_listed_once_each(served: Served, population: Population) -> None:
    engine = served.gateway.engine
    listed = [stream_id async for stream_id in entries.stream_ids(engine)]
    operators = await operators_stream(served.gateway.backends, DEFAULT_PROJECT)
    assert sorted(listed) == sorted(map(StreamId, (*population.open, *population.closed, operators)))
    async with transaction(engine) as db:
        heads = [(await read.stream_state(db, stream_id)).head for stream_id in listed]
    assert await entries.count_events(engine, None) == sum(heads)
    assert await entries.count_events(engine, population.failed) == heads[listed.index(StreamId(population.failed))]


async def test_the_commands(
    served: Served, population: Population, database_url: str, home: Path, tmp_path: Path
) -> None:
    session_id = population.succeeded
    file = tmp_path / "session.jsonl"

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return stellwerk(home, *arguments, variables={"STELLWERK_DATABASE_URL": database_url})

    assert run("export", str(session_id), "-o", str(file)).returncode == 0
    exported = (await served.client.get(f"/sessions/{session_id}/export")).content
    assert file.read_bytes() == exported
    head_chain = (await served.client.get(f"/sessions/{session_id}/events")).json()["head_chain"]

    offline = stellwerk(home, "verify", str(file), "--head-chain", head_chain)
    assert offline.returncode == 0 and "nothing was changed" in offline.stdout, offline
    assert stellwerk(home, "verify", str(file), "--head-chain", "00" * 32).returncode == 1
    file.write_bytes(exported.replace(b"half way", b"half-way", 1))
    tampered = stellwerk(home, "verify", str(file))
    assert tampered.returncode == 1, tampered
    assert f"{session_id} offset 5: data and salt do not give its digest" in tampered.stdout

    everything = run("verify", "--all")
    assert everything.returncode == 0 and "7 stream(s)" in everything.stdout
    await change(served, 'UPDATE events SET step = 9 WHERE stream_id = :id AND "offset" = 5', id=population.failed)
    broken = run("verify", "--all")
    assert broken.returncode == 1 and f"{population.failed} offset 5: the column step" in broken.stdout


async def test_a_patch_is_the_one_that_the_log_names(served: Served, population: Population) -> None:
    path = f"/sessions/{population.succeeded}/patch"
    patch = (await served.client.get(path)).content
    plant = (
        "INSERT INTO artifacts (stream_id, digest, media_type, content)"
        " VALUES (:id, sha256('evil'), 'text/x-diff', 'evil')"
    )
    await change(served, plant, id=population.succeeded)
    point = (
        "UPDATE sessions SET result = json(replace(result::text, result ->> 'patch_digest',"
        " encode(sha256('evil'), 'hex'))) WHERE session_id = :id"
    )
    await change(served, point, id=population.succeeded)
    assert (await served.client.get(path)).content == patch != b"evil"
    found = await faults(served, population.succeeded)
    assert any("the column result" in fault for fault in found) and any("no event names it" in fault for fault in found)


async def test_what_is_not_what_was_written_is_not_served(served: Served, population: Population) -> None:
    await change(
        served, "UPDATE artifacts SET content = 'evil' WHERE media_type = 'text/x-diff' AND stream_id = :id",
        id=population.succeeded,
    )  # fmt: skip
    answer = await served.client.get(f"/sessions/{population.succeeded}/patch")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:stellwerk:problem:altered")
    await change(
        served,
        "UPDATE artifacts SET content = 'evil' WHERE encode(digest, 'hex') = :digest",
        digest=population.artifact,
    )
    answer = await served.client.get(f"/sessions/{population.succeeded}/artifacts/{population.artifact}")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:stellwerk:problem:altered")
    cut = 'DELETE FROM events WHERE stream_id = :id AND "offset" = (SELECT head FROM streams WHERE stream_id = :id)'
    await change(served, cut, id=population.succeeded)
    answer = await served.client.get(f"/sessions/{population.succeeded}/patch")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:stellwerk:problem:altered")


async def test_a_head_that_was_kept_of_a_session_or_of_all(
    served: Served, population: Population, database_url: str, home: Path
) -> None:
    assert await record_heads(served.gateway.engine, DEPLOYMENT, max_bytes=100_000, at_most=LOOKED_AT)
    async with transaction(served.gateway.engine) as db:
        of_all = (await read.stream_state(db, HEADS_STREAM)).head_chain.hex()
        of_one = (await read.stream_state(db, population.failed)).head_chain.hex()

    def verified(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return stellwerk(home, "verify", *arguments, variables={"STELLWERK_DATABASE_URL": database_url})

    whole = verified("--all", "--head-chain", of_all)
    assert whole.returncode == 0 and of_all in whole.stderr, whole
    assert verified(str(population.failed), "--head-chain", of_one).returncode == 0
    assert verified(str(population.failed), "--head-chain", of_all).returncode == 1
    async with tampering(served.gateway.engine) as db:
        for statement in (
            "DELETE FROM steps WHERE session_id = :id",
            "DELETE FROM sessions WHERE session_id = :id",
            "DELETE FROM artifacts WHERE stream_id = :id",
            "DELETE FROM events WHERE stream_id = :id",
            "DELETE FROM streams WHERE stream_id = :id",
        ):
            await db.execute(text(statement), {"id": population.failed})
    gone = verified("--all", "--head-chain", of_all)
    assert gone.returncode == 1 and f"stream {population.failed}: it is gone; it was at offset" in gone.stdout
    assert verified(str(population.failed)).returncode == 3
