"""The SQL on projects and keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.types import AnyStreamId, StreamId
from app.principals.model import Key, Scope


class Place(NamedTuple):
    """Whom a stream belongs to, and where that project's control actions are recorded, if any were yet."""

    project: str
    operators: StreamId | None


_PLACE = """
SELECT s.project, o.stream_id
FROM streams s LEFT JOIN streams o ON o.kind = 'operators' AND o.project = s.project
WHERE s.stream_id = :id AND (CAST(:project AS text) IS NULL OR s.project = :project)
"""


async def place_of(db: AsyncConnection, stream_id: AnyStreamId, *, project: str | None) -> Place | None:
    """None where there is no such stream, or it belongs to another project than `project`."""
    row = (await db.execute(text(_PLACE), {"id": stream_id, "project": project})).one_or_none()
    return Place(*row) if row else None


async def operators_stream(db: AsyncConnection, project: str) -> StreamId | None:
    """None where nothing was recorded for the project yet."""
    found: StreamId | None = await db.scalar(
        text("SELECT stream_id FROM streams WHERE kind = 'operators' AND project = :project"), {"project": project}
    )
    return found


async def control_by_key(db: AsyncConnection, operators: StreamId, dedupe_key: str) -> dict[str, Any] | None:
    """The control_event that an Idempotency-Key stands for."""
    found: dict[str, Any] | None = await db.scalar(
        text("SELECT data FROM events WHERE stream_id = :id AND dedupe_key = :key"),
        {"id": operators, "key": dedupe_key},
    )
    return found


_IN_FORCE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
_KEY = (
    f"key_id, name, project, scopes, created_at, created_by, expires_at, revoked_at, successor, {_IN_FORCE} AS in_force"
)


async def keys_in_force(db: AsyncConnection) -> list[tuple[Key, bytes, float]]:
    """Each with its digest, and the seconds until it expires."""
    rows = await db.execute(
        text(
            f"SELECT {_KEY}, digest, coalesce(extract(epoch FROM expires_at - clock_timestamp()), 'infinity')::float8"
            f" FROM keys WHERE {_IN_FORCE}"
        )
    )
    return [(Key(*row[:-2]), row[-2], row[-1]) for row in rows]


async def sign_outs(db: AsyncConnection) -> dict[str, int]:
    """How often each project's browsers were signed out; the deployment's name stands for all."""
    rows = await db.execute(text("SELECT project, count FROM sign_outs"))
    return {project: int(count) for project, count in rows}


async def count_sign_out(db: AsyncConnection, project: str) -> None:
    await db.execute(
        text(
            "INSERT INTO sign_outs AS s (project, count) VALUES (:project, 1)"
            " ON CONFLICT (project) DO UPDATE SET count = s.count + 1"
        ),
        {"project": project},
    )


async def list_keys(db: AsyncConnection, *, project: str | None) -> list[Key]:
    """Newest first."""
    rows = await db.execute(
        text(
            f"SELECT {_KEY} FROM keys WHERE CAST(:project AS text) IS NULL OR project = :project ORDER BY key_id DESC"
        ),
        {"project": project},
    )
    return [Key(*row) for row in rows]


async def key_row(db: AsyncConnection, key_id: UUID, *, project: str | None) -> Key | None:
    """None where there is no such key, or it belongs to another project than `project`."""
    row = (
        await db.execute(
            text(
                f"SELECT {_KEY} FROM keys WHERE key_id = :id AND (CAST(:project AS text) IS NULL OR project = :project)"
            ),
            {"id": key_id, "project": project},
        )
    ).one_or_none()
    return Key(*row) if row else None


async def is_taken(db: AsyncConnection, project: str, name: str) -> bool:
    """Says whether a key of this name is in force; one that has expired gives its name up."""
    return bool(
        await db.scalar(
            text(
                "SELECT EXISTS (SELECT FROM keys WHERE project = :project AND name = :name"
                f" AND successor IS NULL AND {_IN_FORCE})"
            ),
            {"project": project, "name": name},
        )
    )


async def insert_key(
    db: AsyncConnection,
    key_id: UUID,
    digest: bytes,
    *,
    name: str,
    project: str,
    scopes: Sequence[Scope],
    created_by: str,
    expires_at: datetime | None,
) -> None:
    await db.execute(
        text(
            "INSERT INTO keys (key_id, name, project, scopes, digest, created_by, expires_at)"
            " VALUES (:id, :name, :project, :scopes, :digest, :created_by, :expires_at)"
        ),
        {
            "id": key_id,
            "name": name,
            "project": project,
            "scopes": sorted(scopes),
            "digest": digest,
            "created_by": created_by,
            "expires_at": expires_at,
        },
    )


async def set_revoked(db: AsyncConnection, key_id: UUID) -> None:
    await db.execute(text("UPDATE keys SET revoked_at = clock_timestamp() WHERE key_id = :id"), {"id": key_id})


async def give_up_expired_name(db: AsyncConnection, project: str, name: str) -> None:
    """A key that has expired keeps its row, but not its name."""
    await db.execute(
        text(
            "UPDATE keys SET revoked_at = expires_at WHERE project = :project AND name = :name"
            " AND revoked_at IS NULL AND expires_at <= clock_timestamp()"
        ),
        {"project": project, "name": name},
    )


async def set_successor(db: AsyncConnection, key_id: UUID, successor: UUID, *, valid_for: timedelta) -> None:
    """The old key goes on for this long, and no longer than it would have anyway."""
    await db.execute(
        text(
            "UPDATE keys SET successor = :successor,"
            " expires_at = least(expires_at, clock_timestamp() + CAST(:valid_for AS interval)) WHERE key_id = :id"
        ),
        {"id": key_id, "successor": successor, "valid_for": valid_for},
    )


async def count_admins(db: AsyncConnection, project: str) -> int:
    """How many keys in force may administer the project's keys; those that were rotated do not count."""
    found = await db.scalar(
        text(
            "SELECT count(*) FROM keys WHERE project = :project AND 'admin' = ANY(scopes) AND successor IS NULL"
            f" AND {_IN_FORCE}"
        ),
        {"project": project},
    )
    return int(found or 0)
