"""The SQL on what workers have told of themselves: which workflows they serve or refuse, and that they live."""

from collections.abc import Sequence

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.known_secrets import Fingerprint
from app.sessions.model import RefusedWorkflow, RegisteredWorkflow

LIVES = "last_seen > clock_timestamp() - interval '2 minutes'"
"""The condition on what a live worker has told."""
_SERVES = (
    f"EXISTS (SELECT FROM workers WHERE {LIVES} AND coalesce(:name = ANY (served),"
    f" EXISTS (SELECT FROM workflows WHERE name = :name AND {LIVES})))"
)
"""Says whether a live worker has the workflow; one of the version before 0005 did not tell which it has itself."""
_REFUSED = (
    "SELECT DISTINCT told ->> 'workflow' AS workflow, told ->> 'module' AS module, told ->> 'reason' AS reason"
    f" FROM workers, json_array_elements(refused) told WHERE {LIVES}"
)


async def register_workflows(db: AsyncConnection, registered: Sequence[RegisteredWorkflow]) -> None:
    """Also tells that this worker still serves them (`last_seen`)."""
    for workflow in sorted(registered, key=lambda w: (w.name, w.version)):
        await db.execute(
            text(
                "INSERT INTO workflows AS w (name, version, langgraph_version, input_fields)"
                " VALUES (:name, :version, :langgraph, :fields)"
                " ON CONFLICT (name, version) DO UPDATE SET last_seen = clock_timestamp(),"
                " langgraph_version = excluded.langgraph_version, input_fields = excluded.input_fields"
            ),
            {
                "name": workflow.name,
                "version": workflow.version,
                "langgraph": workflow.langgraph_version,
                "fields": workflow.input_fields,
            },
        )


async def has_ever_registered(db: AsyncConnection) -> bool:
    """Says whether any worker has ever told which workflows it serves."""
    return bool(await db.scalar(text("SELECT EXISTS (SELECT FROM workflows)")))


async def register_worker(
    db: AsyncConnection,
    worker: str,
    *,
    starts: bool,
    served: Sequence[str],
    refused: Sequence[RefusedWorkflow],
    secrets: Sequence[Fingerprint] = (),
) -> None:
    """Tells that this process lives, and with what; one that `starts` may bear the name of an earlier one."""
    await db.execute(
        text(
            "INSERT INTO workers AS w (worker, served, refused, secrets)"
            " VALUES (:worker, :served, CAST(:refused AS json), CAST(:secrets AS json))"
            " ON CONFLICT (worker) DO UPDATE SET last_seen = clock_timestamp(),"
            " served = excluded.served, refused = excluded.refused, secrets = excluded.secrets,"
            " started_at = CASE WHEN :starts THEN clock_timestamp() ELSE w.started_at END"
        ),
        {
            "worker": worker,
            "starts": starts,
            "served": list(served),
            "refused": orjson.dumps(refused).decode(),
            "secrets": orjson.dumps(secrets).decode(),
        },
    )


async def fingerprints(db: AsyncConnection) -> list[Fingerprint]:
    """Of the secrets that workers have; also of one that died: what it wrote may still be read."""
    rows = await db.execute(
        text(
            "SELECT DISTINCT told ->> 'name', told ->> 'how', told ->> 'head', told ->> 'tail',"
            " CAST(told ->> 'length' AS integer), told ->> 'salt', told ->> 'digest'"
            " FROM workers, json_array_elements(secrets) told"
        )
    )
    return [Fingerprint(*row) for row in rows]


async def refused_workflows(db: AsyncConnection) -> list[RefusedWorkflow]:
    """What live workers refuse, modules first, also where others serve it."""
    rows = await db.execute(text(f"{_REFUSED} ORDER BY workflow NULLS FIRST, module, reason"))
    return [RefusedWorkflow(*row) for row in rows]


async def refusals(db: AsyncConnection, name: str) -> list[RefusedWorkflow]:
    """Why live workers refuse the workflow, none of which serves it; empty: one does, or none has it."""
    rows = await db.execute(
        text(f"{_REFUSED} AND told ->> 'workflow' = :name AND NOT {_SERVES} ORDER BY module, reason"), {"name": name}
    )
    return [RefusedWorkflow(*row) for row in rows]


async def serve_nothing(db: AsyncConnection) -> bool:
    """Says whether there are live workers, and all that they were given is refused."""
    serves = "coalesce(cardinality(served) > 0, true)"
    return await db.scalar(text(f"SELECT NOT bool_or({serves}) FROM workers WHERE {LIVES}")) is True


async def forget_workers(db: AsyncConnection) -> None:
    """None lives: what is there was killed."""
    await db.execute(text("DELETE FROM workers"))


async def remove_worker(db: AsyncConnection, worker: str) -> None:
    await db.execute(text("DELETE FROM workers WHERE worker = :worker"), {"worker": worker})


async def prune_workers(db: AsyncConnection) -> None:
    """Removes those that have not been seen for a day: they did not shut down in order."""
    await db.execute(
        text(
            "DELETE FROM workers WHERE worker IN (SELECT worker FROM workers"
            " WHERE last_seen < clock_timestamp() - interval '1 day' FOR UPDATE SKIP LOCKED)"
        )
    )


async def count_workers(db: AsyncConnection) -> int:
    """The processes that have told within two minutes that they live, and have not shut down."""
    return int(await db.scalar(text(f"SELECT count(*) FROM workers WHERE {LIVES}")) or 0)


async def newest_workflow(db: AsyncConnection, name: str) -> RegisteredWorkflow | None:
    """The version for new sessions: of those that a live worker serves, the one registered last."""
    row = (
        await db.execute(
            text(
                "SELECT name, version, langgraph_version, input_fields FROM workflows WHERE name = :name"
                f" ORDER BY {LIVES} DESC, registered_at DESC LIMIT 1"
            ),
            {"name": name},
        )
    ).one_or_none()
    return RegisteredWorkflow(*row) if row else None


async def workflow_names(db: AsyncConnection) -> list[str]:
    return list(await db.scalars(text("SELECT DISTINCT name FROM workflows ORDER BY name")))


async def is_served(db: AsyncConnection, name: str, version: str) -> bool:
    """Says whether a live worker serves this version."""
    return bool(
        await db.scalar(
            text(f"SELECT EXISTS (SELECT FROM workflows WHERE name = :name AND version = :version AND {LIVES})"),
            {"name": name, "version": version},
        )
    )
