"""Ordinary names look like keys, or hold what a process knows as a secret: `verify` calls none of them a forgery."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.principals.model import OWNER
from app.principals.service import create_key, revoke_key
from app.redaction import Redactor
from app.sessions import attempts, service
from app.sessions.attempts import Claim
from app.sessions.model import NewSession, NewStep
from app.sessions.verifying import verify_all
from app.unit_of_work import Backends
from tests.populating import SERVED, advance
from tests.roles import tampering
from tests.serving import Served, serving

PATH, REPO = "/tmp/sk-learn-experiments-2024", "https://h/org/sk-learn-experiments-2024.git"
KEY, WORKER, AGENT = "sk-learn-team-robot-2026", "rk-3588-worker-node-01:7", "pk-agent-that-trains-it"
SECRET = "experiments-2024"


async def claimed(backends: Backends, **given: Any) -> Claim:
    new = NewSession("x", **given)
    session_id = (await service.create_session(backends, new, principal=OWNER))[0].session_id
    await advance(backends, session_id, steps=[NewStep(AGENT, AGENT, "default", None, 1, timedelta(hours=1))])
    claim = await attempts.claim_step(
        backends, session_id, 1, 1, agent=AGENT, lease=uuid4(), worker=WORKER, served=SERVED, alone=False
    )
    assert claim is not None
    return claim


async def populate(served: Served) -> Claim:
    backends = served.gateway.backends
    await claimed(backends, path=PATH)
    failed = await claimed(backends, repo=REPO)
    await attempts.fail_step(backends, failed, "it is wrong", retryable=False)
    lost = await claimed(backends, path=PATH)
    await attempts.lose_step(backends, lost.step, dead="it was killed")
    key, _ = await create_key(backends, name=KEY, scopes=["read"], principal=OWNER)
    await revoke_key(backends, key.key_id, principal=OWNER)
    return failed


async def faults(served: Served) -> list[str]:
    return [str(fault) for found in [f async for f in verify_all(served.gateway.engine)] for fault in found.faults]


CHANGES = (
    ("path", "UPDATE sessions SET path = '/etc' WHERE path IS NOT NULL"),
    ("repo", "UPDATE sessions SET repo = 'https://h/mine.git' WHERE repo IS NOT NULL"),
    ("name", "UPDATE keys SET name = 'another'"),
    ("worker", "UPDATE steps SET worker = 'elsewhere'"),
)


async def are_all_found(served: Served) -> None:
    for column, change in CHANGES:
        async with tampering(served.gateway.engine) as db:
            await db.execute(text(change))
        assert any(f"the column {column}" in fault for fault in await faults(served)), column


async def test_names_are_recorded_as_they_are(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url) as served:
        failed = await populate(served)
        assert await faults(served) == []
        path = f"/sessions/{failed.session.session_id}/events"
        told = (await served.client.get(path)).text + (await served.client.get("/operators/events")).text
        assert all(name in told for name in (WORKER, KEY))
        await are_all_found(served)


async def test_what_older_versions_hid_is_no_forgery(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(database_url, redis_url) as served:
        monkeypatch.setattr(Redactor, "known", Redactor.text)
        await populate(served)
        assert await faults(served) == []
        await are_all_found(served)


async def test_nor_is_a_known_secret_in_a_name(database_url: str, redis_url: str) -> None:
    secret: Any = SECRET
    async with serving(database_url, redis_url, openai_api_key=secret) as served:
        failed = await populate(served)
        path = f"/sessions/{failed.session.session_id}/events"
        assert SECRET not in (await served.client.get(path)).text
        assert await faults(served) == []
        await are_all_found(served)
