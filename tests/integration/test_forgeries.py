"""Whatever a superuser changes in a database, `stellwerk verify --all` finds; and it finds nothing where none did.

The table of forgeries is tests/forgeries.sql.
"""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import transaction
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from app.events.proof.fault import Check, Fault
from app.events.proof.heads import record_heads
from app.events.read import stream_state
from app.events.types import HEADS_STREAM
from app.principals.control import control_in_project
from app.principals.model import DEPLOYMENT, OWNER, Control
from app.principals.service import create_key, revoke_key, rotate_key, sign_out_all
from app.sessions import control, service
from app.sessions.model import NewSession
from app.sessions.verifying import verify_all
from app.unit_of_work import Backends
from tests.answering import answer
from tests.conftest import execute, url_of
from tests.following import engine_of
from tests.populating import created, ended, waiting
from tests.roles import bump_epoch
from tests.serving import serving

TESTS = Path(__file__).parents[1]
LIKE_A_KEY = "sk-learn-experiments-2024"
MAX_EVENT_BYTES, LARGE = 16_384, 20_000
"""What is larger than an event is an artifact, and need not be large for it."""


class Forgery(NamedTuple):
    """`told` is a part of what the `check` says of it."""

    name: str
    check: Check
    told: str
    statements: str


def read_forgeries() -> Iterator[Forgery]:
    table = (TESTS / "forgeries.sql").read_text()
    for found in re.finditer(r"^-- (.+)\n-- (\w+): (.+)\n((?:(?!--).+\n)+)", table, re.MULTILINE):
        name, check, told, statements = found.groups()
        yield Forgery(name, cast("Check", check), told, statements)


FORGERIES = list(read_forgeries())


class Populated(NamedTuple):
    """A database for forgers, the ids of its sessions by name, and the chain of its heads."""

    engine: AsyncEngine
    forger: psycopg.Connection[Any]
    ids: dict[str, str]
    kept: bytes

    async def faults_after(self, statements: str, *, kept: bytes | None = None) -> list[Fault]:
        """Of what the statements leave, which is undone then."""
        for name, session_id in self.ids.items():
            statements = statements.replace(f"{{{name}}}", session_id)
        self.forger.execute(statements.encode())
        try:
            return [fault async for found in verify_all(self.engine, kept=kept) for fault in found.faults]
        finally:
            self.forger.execute("SELECT undo()")


@pytest.fixture(scope="module")
async def populated(
    postgres: EmbeddedPostgres, migrated_template: str, valkey: EmbeddedValkey
) -> AsyncIterator[Populated]:
    url = url_of(postgres, "populated")
    execute(postgres.superuser_url, f"CREATE DATABASE populated TEMPLATE {migrated_template}")
    async with serving(url, valkey.url, max_event_bytes=MAX_EVENT_BYTES) as served:
        ids = await _populate(served.gateway.backends)
    async with engine_of(url) as engine:
        async with transaction(engine) as db:
            kept = (await stream_state(db, HEADS_STREAM)).head_chain
        with psycopg.connect(url, autocommit=True, options="-c synchronous_commit=off") as forger:
            forger.execute((TESTS / "forging.sql").read_bytes())
            yield Populated(engine, forger, ids | {"heads": str(HEADS_STREAM)}, kept)
    execute(postgres.superuser_url, "DROP DATABASE populated WITH (FORCE)")


async def _populate(backends: Backends) -> dict[str, str]:
    """Two epochs, heads in three ranges, and keys of all fates."""
    ids = {
        "created": await created(backends),
        "succeeded": await ended(backends, "succeeded", update={"plan": ["x" * LARGE]}),
        "failed": await ended(backends, "failed"),
        "cancelled": await ended(backends, "cancelled"),
    }
    await _record(backends)
    ids["waiting"] = await waiting(backends, answer_schema={"type": "string"})
    ids["answered"] = await waiting(backends, "?" * LARGE, answer_schema={"type": "string", "title": "x" * LARGE})
    await answer(backends, ids["answered"], 1, answer="!" * LARGE)
    new = NewSession("go on", continues=ids["succeeded"], workflow=None)
    ids["continued"] = (await service.create_session(backends, new, principal=OWNER))[0].session_id
    looks_like_keys = {
        "named": NewSession("t", path=f"/tmp/{LIKE_A_KEY}"),
        "hidden": NewSession("t", repo=f"https://example.org/{LIKE_A_KEY}.git"),
    }
    for name, asked in looks_like_keys.items():
        ids[name] = (await service.create_session(backends, asked, principal=OWNER))[0].session_id
    retried = await ended(backends, "failed")
    await _make_keys(backends)
    erase = Control("events.erase", OWNER, str(ids["cancelled"]), details={"offsets": [[5, 5]]})
    async with control_in_project(backends, "another", erase):
        pass
    await _record(backends)
    await bump_epoch(backends.engine, "a second life")
    await control.retry_session(backends, retried, principal=OWNER, reason="it is there now")
    await _record(backends)
    return {name: str(session_id) for name, session_id in ids.items()}


async def _record(backends: Backends) -> None:
    assert await record_heads(backends.engine, DEPLOYMENT, max_bytes=100_000, at_most=100_000)


async def _make_keys(backends: Backends) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    await create_key(backends, name="reader", scopes=["read"], principal=OWNER)
    await create_key(backends, name=f"{LIKE_A_KEY}.reads", scopes=["read"], principal=OWNER)
    await sign_out_all(backends, principal=OWNER)
    turned, _ = await create_key(backends, name="turned", scopes=["read"], expires_at=soon, principal=OWNER)
    await rotate_key(backends, turned.key_id, valid_for=timedelta(hours=1), principal=OWNER)
    gone, _ = await create_key(backends, name="gone", scopes=["read", "submit"], principal=OWNER)
    await revoke_key(backends, gone.key_id, principal=OWNER)


def test_the_table_is_read_whole() -> None:
    assert len(FORGERIES) == (TESTS / "forgeries.sql").read_text().count(";\n\n") + 1 > 100
    assert len({forgery.name for forgery in FORGERIES}) > 90


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: f"{forgery.check}: {forgery.name}")
async def test_a_forgery_is_found(populated: Populated, forgery: Forgery) -> None:
    found = await populated.faults_after(forgery.statements)
    assert any(fault.check == forgery.check and forgery.told in str(fault) for fault in found), found


async def test_nothing_is_found_where_nothing_was_changed(populated: Populated) -> None:
    assert await populated.faults_after("SELECT 1", kept=populated.kept) == []


HEADS_GONE = "SELECT vanish('{heads}');"
ALL_ANEW = f"""
{HEADS_GONE}
SELECT reword('{{created}}', 'fix the lint errors', 'nothing at all'), rechain('{{created}}');
UPDATE sessions SET task = 'nothing at all', input = json(replace(input::text, task, 'nothing at all'))
WHERE session_id = '{{created}}';
"""


async def test_a_forger_who_computes_everything_anew_is_found_by_the_head_that_was_kept(populated: Populated) -> None:
    assert await populated.faults_after(ALL_ANEW) == []  # nothing in the database itself speaks against it
    (found,) = await populated.faults_after(ALL_ANEW, kept=populated.kept)
    assert found.check == "heads" and "there are none, and so not the chain that was kept" in str(found)
    other_heads = "SELECT reword('{heads}', '\"parts\":1', '\"parts\":2'), rechain('{heads}')"
    found_of_other = await populated.faults_after(other_heads, kept=populated.kept)
    assert any("stands nowhere in this stream" in str(fault) for fault in found_of_other), found_of_other
