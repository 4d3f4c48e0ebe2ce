"""The SQL on `cache_entries`. Each statement is a transaction of its own."""

from collections.abc import Mapping, Sequence
from typing import LiteralString, NamedTuple

import orjson

from app.database import DriverPool

Namespace = tuple[str, ...]
Id = tuple[Namespace, str]
"""A namespace and a key."""


class Owner(NamedTuple):
    """Whose entries these are; another version of a workflow may compute something else."""

    project: str
    workflow: str
    workflow_version: str


class Entry(NamedTuple):
    form: str
    content: bytes


class NewEntry(NamedTuple):
    form: str
    content: bytes
    seconds: float


_NAMESPACE: LiteralString = "ARRAY(SELECT json_array_elements_text(g.namespace::json))"
_OWNED: LiteralString = "c.project = %b AND c.workflow = %b AND c.workflow_version = %b"


async def read(pool: DriverPool, owner: Owner, ids: Sequence[Id]) -> dict[Id, Entry]:
    """Those that there are and that have not expired."""
    query: LiteralString = (
        "SELECT c.namespace, c.key, c.form, c.content FROM unnest(%b::text[], %b::text[]) AS g (namespace, key)"
        f" JOIN cache_entries c ON {_OWNED} AND c.namespace = {_NAMESPACE} AND c.key = g.key"
        " WHERE c.expires_at > clock_timestamp()"
    )
    arguments = ([_json(namespace) for namespace, _ in ids], [key for _, key in ids], *owner)
    rows = await pool.execute(query, arguments)
    return {(tuple(namespace), key): Entry(form, content) for namespace, key, form, content in rows}


async def write(pool: DriverPool, owner: Owner, entries: Mapping[Id, NewEntry]) -> None:
    """In the order of their ids: two that write the same ones would otherwise wait for each other."""
    query: LiteralString = (
        "INSERT INTO cache_entries (project, workflow, workflow_version, namespace, key, form, content, expires_at)"
        f" SELECT %b, %b, %b, {_NAMESPACE}, g.key, g.form, g.content,"
        " clock_timestamp() + make_interval(secs => g.seconds)"
        " FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %b::float8[]) WITH ORDINALITY"
        " AS g (namespace, key, form, content, seconds, n) ORDER BY g.n"
        " ON CONFLICT (project, workflow, workflow_version, namespace, key) DO UPDATE SET"
        " form = excluded.form, content = excluded.content, expires_at = excluded.expires_at RETURNING 1"
    )
    ordered = sorted(entries)
    arrays = (
        [_json(namespace) for namespace, _ in ordered],
        [key for _, key in ordered],
        [entries[id_].form for id_ in ordered],
        [entries[id_].content for id_ in ordered],
        [float(entries[id_].seconds) for id_ in ordered],
    )
    await pool.execute(query, (*owner, *arrays))


async def clear(pool: DriverPool, owner: Owner, namespaces: Sequence[Namespace] | None) -> None:
    """Removes the entries of these namespaces; None: all of them."""
    query: LiteralString = (
        f"DELETE FROM cache_entries c WHERE {_OWNED} AND (%b::text[] IS NULL OR c.namespace IN"
        f" (SELECT {_NAMESPACE} FROM unnest(%b::text[]) AS g (namespace))) RETURNING 1"
    )
    given = None if namespaces is None else [_json(namespace) for namespace in namespaces]
    await pool.execute(query, (*owner, given, given))


async def prune(pool: DriverPool, *, limit: int) -> int:
    """Removes entries that have expired, the oldest first, `limit` of them at most; says how many."""
    query: LiteralString = (
        "WITH pruned AS (DELETE FROM cache_entries WHERE ctid IN"
        " (SELECT ctid FROM cache_entries WHERE expires_at < clock_timestamp()"
        " ORDER BY expires_at LIMIT %b::int FOR UPDATE SKIP LOCKED) RETURNING 1) SELECT count(*) FROM pruned"
    )
    ((count,),) = await pool.execute(query, (limit,))
    assert isinstance(count, int)
    return count


def _json(namespace: Namespace) -> str:
    return orjson.dumps(namespace).decode()
