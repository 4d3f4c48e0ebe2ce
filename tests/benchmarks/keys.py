"""What it costs a request to be let in: by a key, of which there are ten thousand, and by the stack's own token."""

import time
from collections.abc import AsyncIterator
from statistics import median
from uuid import uuid4

import psycopg
from starlette.requests import HTTPConnection

from app.config import Settings
from app.database import create_engine
from app.gateway.access import Access
from app.principals.key_ring import KeyRing
from app.principals.secrets import digest_of, new_key
from tests.benchmarks.figure import Figure, Goal, in_turns
from tests.benchmarks.house import TOKEN, House

KEYS = 10_000
REQUESTS = 20_000
LIMIT_MS = 0.1


async def bench(house: House) -> AsyncIterator[Figure]:
    url = house.new_database()
    keys = fill(url)
    engine = create_engine(url)
    try:
        ring = KeyRing(engine)
        await ring.read()
        access = Access(Settings(token=TOKEN, project_rate=10 * REQUESTS), ring)

        async def by_key() -> float:
            return admitted_ms(access, keys)

        async def by_token() -> float:
            return admitted_ms(access, [TOKEN])

        ours, theirs = await in_turns(by_key, by_token)
    finally:
        await engine.dispose()
    yield Figure(
        "letting a request in by a key",
        "ms",
        ours,
        "by the stack's own token",
        theirs,
        Goal("≤", LIMIT_MS, unit="ms"),
        f"the median of {REQUESTS:,} requests with {KEYS:,} keys: read, looked up, counted in its project",
    )


def fill(url: str) -> list[str]:
    """A hundred projects have them."""
    keys = [new_key() for _ in range(KEYS)]
    with psycopg.connect(url) as db, db.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO keys (key_id, name, project, scopes, digest, created_by) VALUES (%s, %s, %s, %s, %s, 'owner')",
            [(uuid4(), f"key-{n}", f"project-{n % 100}", ["read"], digest_of(key)) for n, key in enumerate(keys)],
        )
    return keys


def admitted_ms(access: Access, keys: list[str]) -> float:
    took = []
    for number in range(REQUESTS):
        headers = [(b"authorization", f"Bearer {keys[number * 7919 % len(keys)]}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/sessions", "query_string": b"", "headers": headers}
        began = time.perf_counter()
        access.admit(HTTPConnection(scope))
        took.append(time.perf_counter() - began)
    return 1000 * median(took)
