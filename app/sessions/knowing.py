"""Secrets that only workers have: a gateway finds them by fingerprints, which workers tell when they register."""

import asyncio
import time

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cancelling import asked_to_end
from app.database import is_away, transaction
from app.errors import describe
from app.sessions import worker_repository
from app.unit_of_work import Backends

logger = structlog.get_logger(__name__)

FRESH_SECONDS = 2.0
EVERY_SECONDS = 10.0


async def learn_secrets(backends: Backends, db: AsyncConnection, *, fresh_seconds: float = 0.0) -> None:
    """Call it before something is recorded that a client sent in more than a sentence.

    What comes often may do with what was learned `fresh_seconds` before; a worker may have registered since.
    """
    now = time.monotonic()
    if now - backends.secrecy.learned_at > fresh_seconds:
        backends.secrecy.learn(await worker_repository.fingerprints(db), now)


async def keep_learning(backends: Backends) -> None:
    """For a gateway, until cancelled: reasons and comments may hold a secret, too."""
    while not asked_to_end():
        try:
            async with transaction(backends.engine) as db:
                await learn_secrets(backends, db)
        except Exception as error:
            if not is_away(error):
                raise
            logger.debug("secrets are learned later", error=describe(error))
        await asyncio.sleep(EVERY_SECONDS)
