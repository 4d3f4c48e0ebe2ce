"""Secrets that only workers have: a gateway finds them by fingerprints, which workers tell when they register."""

import time

from sqlalchemy.ext.asyncio import AsyncConnection

from app.sessions import worker_repository
from app.unit_of_work import Backends

FRESH_SECONDS = 2.0


async def learn_secrets(backends: Backends, db: AsyncConnection) -> None:
    """Call it before something is recorded that a client sent."""
    now = time.monotonic()
    if now - backends.secrecy.learned_at > FRESH_SECONDS:
        backends.secrecy.learn(await worker_repository.fingerprints(db), now)
