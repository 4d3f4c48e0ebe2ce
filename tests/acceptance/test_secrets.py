"""Secrets by name with real workers: one that lacks a secret says so, and a rotated one is the new one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.principals.model import OWNER
from app.sessions import control, service
from app.sessions.model import NewSession
from tests.cluster import Cluster, cluster_on

GRAPH = "tests.graphs.named_secrets"
OLD, NEW = "an-old-key-0123456789", "another/key, which is longer than the old one"


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        yield running


async def test_a_worker_without_the_secret_fails_the_session_and_one_with_another_goes_on(cluster: Cluster) -> None:
    known: Any = {"openai_api_key": OLD}
    gateway = replace(cluster.backends, settings=Settings(**known))
    lacking = cluster.start_worker(GRAPH)
    await cluster.serves("named")
    new = NewSession("say it", workflow="named", input={"header": f"Bearer {OLD}"}, context={"key": OLD})
    view, _ = await service.create_session(gateway, new, principal=OWNER)
    failed = await cluster.ended(view.session_id)
    assert failed.status == "failed" and "the secret 'OPENAI_API_KEY' is not set here" in (failed.reason or "")
    lacking.terminate()
    lacking.wait()

    cluster.start_worker(GRAPH, OPENAI_API_KEY=NEW)
    await control.retry_session(cluster.backends, view.session_id, principal=OWNER)
    ended = await cluster.ended(view.session_id)
    assert ended.status == "succeeded", ended
    assert ended.result == {"header": "Bearer [redacted]", "length": len(f"Bearer {NEW}{NEW}")}
    assert all(OLD not in str(event) and NEW not in str(event) for event in await cluster.events(view.session_id))
