"""What the log says of a session's calls of models: what they cost, and answers that were paid for."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import artifacts
from app.events.types import AnyStreamId

_SPENT = """
SELECT coalesce(sum((data ->> 'cost')::float8), 0),
       coalesce(sum(coalesce((data -> 'usage' ->> 'input_tokens')::bigint, 0)
                  + coalesce((data -> 'usage' ->> 'output_tokens')::bigint, 0)), 0)
FROM events WHERE stream_id = :id AND t = 'model_event'
"""

_ANSWER = """
SELECT "offset", data -> 'response' FROM events
WHERE stream_id = :id AND t = 'model_event' AND data ->> 'error' IS NULL
  AND data -> 'response' ->> 'sha256' IS NULL
  AND data -> 'trace' ->> 'request_digest' = :digest AND (CAST(:step AS integer) IS NULL OR step = :step)
ORDER BY "offset" DESC LIMIT 1
"""

# The answer to a step's question is its next approval_event; steps ask one thing at a time.
_RAISES = """
SELECT answer FROM (
    SELECT step, data ->> 'status' AS status, data -> 'question' ->> 'kind' AS kind,
           lead(data -> 'answer') OVER in_step AS answer, lead(data ->> 'status') OVER in_step AS verdict
    FROM events WHERE stream_id = :id AND t = 'approval_event' WINDOW in_step AS (PARTITION BY step ORDER BY "offset")
) AS asked
WHERE status = 'requested' AND kind = :kind AND verdict = 'approved' AND step <> :step
"""


_STARTED = """
SELECT data -> 'details' ->> 'response_id' FROM events
WHERE stream_id = :id AND t = 'agent_event' AND step = :step AND data -> 'details' ->> 'request_digest' = :digest
ORDER BY "offset" DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Spent:
    usd: float
    tokens: int


@dataclass(frozen=True, slots=True)
class PastAnswer:
    offset: int
    response: Any


async def read_spent(db: AsyncConnection, stream_id: AnyStreamId) -> Spent:
    """Sums up all calls so far, failed ones included."""
    row = (await db.execute(text(_SPENT), {"id": stream_id})).one()
    return Spent(float(row[0]), int(row[1]))


async def read_raises(db: AsyncConnection, stream_id: AnyStreamId, *, kind: str, besides: int) -> list[Any]:
    """What people answered when steps other than `besides` asked for a larger budget, by a question of this `kind`."""
    parameters = {"id": stream_id, "kind": kind, "step": besides}
    return list(await db.scalars(text(_RAISES), parameters))


async def find_answer(
    db: AsyncConnection, stream_id: AnyStreamId, digest: str, *, step: int | None = None
) -> PastAnswer | None:
    """The last answer that the same request got, in this step or (None) in the whole session.

    An answer of which only the digest was recorded is none.
    """
    row = (await db.execute(text(_ANSWER), {"id": stream_id, "digest": digest, "step": step})).one_or_none()
    if row is None:
        return None
    return PastAnswer(row[0], await artifacts.fetch(db, stream_id, row[1]))


async def find_started_response(db: AsyncConnection, stream_id: AnyStreamId, digest: str, *, step: int) -> str | None:
    """The provider's id of a response that the step reported it had started for this request."""
    found: str | None = await db.scalar(text(_STARTED), {"id": stream_id, "digest": digest, "step": step})
    return found
