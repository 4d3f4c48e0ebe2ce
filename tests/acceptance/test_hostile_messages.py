"""What others put into the broker's queues: no worker ends by it, and what is owed is still done."""

import base64
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from redis.asyncio import Redis

from app.sessions.dispatch import ADVANCE_QUEUE, ADVANCE_SESSION, DEFAULT_QUEUE, RUN_STEP
from tests.cluster import Cluster, cluster_on

STEPS = "tests.graphs.steps"


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        yield running


def message(body: bytes, **headers: Any) -> dict[str, Any]:
    """As kombu puts a task into a list of Redis."""
    told = {"lang": "py", "task": RUN_STEP, "id": str(uuid4()), "argsrepr": "", "kwargsrepr": "", **headers}
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": told,
        "properties": {
            "correlation_id": told["id"],
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": DEFAULT_QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }


def task(*arguments: Any, **headers: Any) -> dict[str, Any]:
    return message(orjson.dumps([arguments, {}, {}]), **headers)


def without(found: dict[str, Any], *path: str) -> dict[str, Any]:
    *above, last = path
    inner = found
    for name in above:
        inner = inner[name]
    del inner[last]
    return found


def changed(found: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return found | changes


GARBAGE: dict[str, Any] = {
    "empty": b"",
    "no-json": b"{",
    "no-utf8": b"\xff\xfe\x00",
    "null": b"null",
    "number": b"17",
    "list": b"[]",
    "empty-object": {},
    "only-properties": {"properties": {}},
    "no-body": without(task(), "body"),
    "no-headers": without(task(), "headers"),
    "no-properties": without(task(), "properties"),
    "no-tag": without(task(), "properties", "delivery_tag"),
    "tag-is-a-list": changed(task(), properties=task()["properties"] | {"delivery_tag": ["x"]}),
    "no-delivery-info": without(task(), "properties", "delivery_info"),
    "no-task": without(task(), "headers", "task"),
    "no-id": without(task(), "headers", "id"),
    "body-is-no-base64": changed(task(), body="***"),
    "body-is-a-number": changed(task(), body=5),
    "unknown-encoding": changed(task(), properties=task()["properties"] | {"body_encoding": "rot13"}),
    "unknown-charset": changed(task(), **{"content-encoding": "klingon"}),
    "pickle": changed(message(pickle.dumps([(), {}, {}])), **{"content-type": "application/x-python-serialize"}),
    "unknown-type": changed(task(), **{"content-type": "application/x-nothing"}),
    "unknown-task": task(task="os.system"),
    "task-is-a-number": task(task=5),
    "no-arguments": task(),
    "too-many-arguments": task(1, 2, 3, 4, 5, 6, 7),
    "no-uuid": task("../../etc/passwd", 1, 1, "agent"),
    "step-is-text": task(str(uuid4()), "one", "two", "agent"),
    "step-is-huge": task(str(uuid4()), 2**62, 1, "agent"),
    "agent-is-an-object": task(str(uuid4()), 1, 1, {"a": 1}),
    "body-is-null": message(b"null"),
    "body-is-deep": message(b"[" * 5000 + b"]" * 5000),
    "advance-nothing": task(task=ADVANCE_SESSION),
    "advance-no-uuid": task("x", task=ADVANCE_SESSION),
    "advance-a-list": task([], task=ADVANCE_SESSION),
    "eta-is-no-time": task(str(uuid4()), 1, 1, "agent", eta="tomorrow"),
    "eta-is-far": task(str(uuid4()), 1, 1, "agent", eta="9999-01-01T00:00:00+00:00"),
    "expires-is-text": task(str(uuid4()), 1, 1, "agent", expires="soon"),
    "limit-is-text": task(str(uuid4()), 1, 1, "agent", timelimit=["x", "y"]),
    "retries-is-text": task(str(uuid4()), 1, 1, "agent", retries="x"),
    "callbacks": message(orjson.dumps([[], {}, {"callbacks": [{"task": "x"}], "quick": 5, "chord": {}}])),
}


@pytest.mark.parametrize("queue", [DEFAULT_QUEUE, ADVANCE_QUEUE])
async def test_garbage_in_a_queue_ends_no_worker(cluster: Cluster, redis_url: str, queue: str) -> None:
    worker = cluster.start_worker(STEPS)
    await cluster.serves("quick")
    async with Redis.from_url(redis_url) as redis:
        for name, given in GARBAGE.items():
            text = given if isinstance(given, bytes) else orjson.dumps(given)
            await redis.lpush(queue, text)
            session_id = await cluster.create("quick")
            view = await cluster.ended(session_id)
            assert (view.status, worker.poll()) == ("succeeded", None), name
        # None of it takes a place of those that may be under way, but the one whose time is to come.
        assert await redis.hlen("unacked") <= 1
