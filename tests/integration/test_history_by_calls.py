"""The functions that the application may call, with forged arguments: what stands in the log stays as it is."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import errors

from tests.populating import Population, populate
from tests.roles import as_app
from tests.serving import Served, serving


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


@pytest.fixture
async def population(served: Served) -> Population:
    return await populate(served.gateway.backends)


HISTORY = (
    "SELECT md5(string_agg(e::text, '|' ORDER BY position)) FROM events e",
    "SELECT md5(string_agg(s::text, '|' ORDER BY stream_id)) FROM streams s",
    "SELECT md5(string_agg(a::text, '|' ORDER BY stream_id, digest)) FROM artifacts a",
    "SELECT md5(string_agg(e::text, '|' ORDER BY epoch)) FROM epochs e",
    "SELECT md5(string_agg(x::text, '|' ORDER BY session_id)) FROM sessions x",
    "SELECT md5(string_agg(p::text, '|' ORDER BY session_id, step)) FROM steps p",
)
_DATA = """'{"t":"session_event","status":"running"}'"""
_APPEND = (
    "SELECT status FROM public.append_events({writer}, {call}, ARRAY[{stream}]::uuid[], ARRAY[{data}], ARRAY['{t}'],"
    " ARRAY[NULL]::text[], ARRAY[NULL]::text[], ARRAY[{step}]::int[], ARRAY[{attempt}]::int[], ARRAY[{lease}]::uuid[],"
    " ARRAY[{key}]::text[], ARRAY['\\x00'::bytea])"
)


def appending(stream: object, **changes: object) -> str:
    plain: dict[str, object] = dict.fromkeys(("writer", "call", "step", "attempt", "lease", "key"), "NULL")
    return _APPEND.format(**plain | {"stream": f"'{stream}'", "data": _DATA, "t": "session_event"} | changes)


def history(url: str) -> list[object]:
    with psycopg.connect(url) as db:
        return [db.execute(query.encode()).fetchone() for query in HISTORY]


async def test_no_call_rewrites_what_stands(database_url: str, population: Population) -> None:
    before, over = history(database_url), population.succeeded
    with psycopg.connect(as_app(database_url), autocommit=True) as app:
        (version,) = (
            app.execute("SELECT snapshot_version FROM sessions WHERE session_id = %s", (over,)).fetchone() or ()
        )
        assert app.execute(appending(over).encode()).fetchone() == ("closed",)
        running = population.open[0]
        fenced = appending(running, data="""'{"t":"x"}'""", t="x", step=1, attempt=1, lease="gen_random_uuid()")
        assert app.execute(fenced.encode()).fetchone() == ("fenced",)
        for call in (
            f"reopen_stream('{over}')",
            f"reopen_stream('{running}')",
            "reopen_stream((SELECT stream_id FROM streams WHERE kind = 'operators' LIMIT 1))",
            "reopen_stream(gen_random_uuid())",
            f"create_stream('{over}', 'session', 'default')",
        ):
            with pytest.raises((errors.CheckViolation, errors.UniqueViolation)):
                app.execute(f"SELECT {call}".encode())
        app.execute("SELECT create_stream(gen_random_uuid(), 'operators', 'default')")  # there is one
        app.execute("SELECT put_artifact(stream_id, 'text/forged', content) FROM artifacts")  # under its own digest
        app.execute("SELECT observe_cluster(), observe_cluster()")
        salts, none = "ARRAY['\\x00', '\\x00']::bytea[]", ", ".join(["'{}'"] * 7)
        served = f"'w', '{{repair}}', '{{1}}', false, 'a', {_DATA}, NULL, {salts}"
        moves = (
            f"claim_step('{over}', 1, 1, gen_random_uuid(), '1 h', {served})",
            f"complete_step('{over}', 1, gen_random_uuid(), '{{}}', 'c', 'a', 1, {_DATA}, 'r', {_DATA}, {salts})",
            f"commit_fold('{over}', {version}, '\\x00', 1, 'b', 1, {none}, {_DATA}, '\\x00', {none})",
        )
        for move in moves:
            assert app.execute(f"SELECT FROM {move}".encode()).fetchall() == [], move
        app.execute(f"SELECT settle_superstep('{over}', 1, 'r', {_DATA}, '\\x00')".encode())
    assert history(database_url) == before


async def test_what_is_called_does_not_look_where_its_caller_says(database_url: str, population: Population) -> None:
    """Temporary tables and functions of the same names, first in the search path, are not what a function finds."""
    stream = population.open[0]
    with psycopg.connect(as_app(database_url), autocommit=True) as app:
        (head,) = app.execute("SELECT head FROM streams WHERE stream_id = %s", (stream,)).fetchone() or ()
        app.execute("CREATE TEMP TABLE events (LIKE public.events INCLUDING ALL)")
        app.execute("CREATE TEMP TABLE streams (LIKE public.streams INCLUDING ALL)")
        app.execute("INSERT INTO pg_temp.streams SELECT * FROM public.streams")
        app.execute("UPDATE pg_temp.streams SET closed = false, status = 'failed', head = 0")
        app.execute("CREATE TEMP TABLE epochs AS SELECT * FROM public.epochs")
        app.execute("CREATE TEMP TABLE artifacts (LIKE public.artifacts INCLUDING ALL)")
        app.execute("CREATE TEMP TABLE steps (LIKE public.steps INCLUDING ALL)")
        app.execute("CREATE TEMP TABLE writers (LIKE public.steps)")
        app.execute("CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql RETURN '\\x00'::bytea")
        app.execute(
            "CREATE FUNCTION pg_temp.stream_lock_key(uuid) RETURNS bigint LANGUAGE plpgsql"
            " AS $$BEGIN RAISE 'called as %', current_user; END$$"
        )
        app.execute("SET search_path = pg_temp, public, pg_catalog")
        assert app.execute(appending(stream, writer="gen_random_uuid()", call=1).encode()).fetchone() == ("appended",)
        assert app.execute(appending(population.succeeded).encode()).fetchone() == ("closed",)
        with pytest.raises(errors.CheckViolation):
            app.execute(f"SELECT public.reopen_stream('{population.succeeded}')".encode())
        (digest,) = app.execute(f"SELECT public.put_artifact('{stream}', 't', 'x')".encode()).fetchone() or ()
        left = app.execute("SELECT (SELECT count(*) FROM pg_temp.events) + (SELECT count(*) FROM pg_temp.artifacts)")
        assert left.fetchone() == (0,)
    with psycopg.connect(database_url) as db:
        row = db.execute("SELECT head, sha256('x') = %s FROM streams WHERE stream_id = %s", (digest, stream)).fetchone()
    assert row == (head + 1, True)
