"""What the application's role may do: every kind of statement, on every object, compared with what it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import tuple_row

from app.grants import undeclared
from tests.roles import as_app

Db = psycopg.Connection[Any]

READ_ONLY = {"alembic_version", "events", "streams", "epochs", "artifacts"}
UNSEEN = {"writers"}
INSERTED: dict[str, str] = {
    "sessions": "session_id status task input path repo priority options principal project workflow workflow_version"
    " langgraph_version idempotency_key request_digest context config continues base_commit repo_credentials",
    "keys": "key_id name project scopes digest created_by expires_at",
    "workflows": "name version langgraph_version input_fields",
    "workers": "worker served refused secrets",
    "sign_outs": "project count",
    "store_items": "project namespace key value vectors position namespace_position created_at updated_at",
    "store_seeds": "project namespace key",
    "cache_entries": "project workflow workflow_version namespace key form content expires_at",
}
UPDATED: dict[str, str] = {
    "sessions": "status reason ended_at result final_state snapshot admitted_at advance_sent_at repo_credentials",
    "steps": "status attempt failures lost lease_token lease_until available_at sent_at sends interrupt_id"
    " node_snapshot question answer answer_schema error ended_at reporting_attempt reports report_bytes",
    "keys": "expires_at revoked_at successor",
    "workflows": "langgraph_version input_fields last_seen",
    "workers": "started_at last_seen served refused secrets",
    "sign_outs": "count",
    "store_items": "value vectors created_at updated_at",
    "cache_entries": "form content expires_at",
}
DELETED = {"workers", "store_items", "cache_entries"}
DRAWN_FROM = {"store_items_position_seq"}
NOT_CALLED = {"append_all", "begin_epoch"}

ON_EVERY_TABLE = (
    "TRUNCATE {}",
    "TRUNCATE {} CASCADE",
    "DROP TABLE {}",
    "ALTER TABLE {} ADD COLUMN more text",
    "ALTER TABLE {} DISABLE TRIGGER ALL",
    "ALTER TABLE {} OWNER TO CURRENT_USER",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {} SET SCHEMA pg_temp",
    "CREATE INDEX ON {} ((1))",
    "CREATE RULE r AS ON INSERT TO {} DO INSTEAD NOTHING",
    "CREATE TRIGGER t AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "COMMENT ON TABLE {} IS 'x'",
    "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
)
CHANGES_NOTHING_OF_OTHERS = (
    "CREATE TEMP TABLE mine (n int)",
    "DO $$BEGIN PERFORM 1; END$$",
    "SET search_path = pg_temp",
    "ALTER ROLE CURRENT_USER PASSWORD 'another'",
)
OUTSIDE_OF_TRANSACTIONS = ("CREATE DATABASE more", "ALTER SYSTEM SET fsync = off", "DROP DATABASE {database}")
NEVER = (
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY store_seeds FROM PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/stellwerk-copied'",
    "COPY store_seeds FROM '/etc/passwd'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_read_binary_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('postgresql.conf')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/stellwerk-exported')",
    "SET ROLE stellwerk_owner",
    "SET ROLE stellwerk",
    "SET SESSION AUTHORIZATION stellwerk",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE stellwerk_owner PASSWORD 'mine'",
    "GRANT stellwerk_owner TO CURRENT_USER",
    "GRANT pg_execute_server_program TO CURRENT_USER",
    "REASSIGN OWNED BY stellwerk_owner TO CURRENT_USER",
    "DROP OWNED BY stellwerk_owner",
    "DROP OWNED BY CURRENT_USER",
    "CREATE ROLE more",
    "CREATE SCHEMA more",
    "CREATE TABLE public.more (n int)",
    "CREATE VIEW public.more AS SELECT 1",
    "CREATE SEQUENCE public.more",
    "CREATE TYPE public.more AS (n int)",
    "CREATE FUNCTION public.more() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE CAST (uuid AS bytea) WITHOUT FUNCTION",
    "CREATE EXTENSION dblink",
    "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION pg_event_trigger_ddl_commands()",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "DROP SCHEMA public CASCADE",
    "ALTER SCHEMA public OWNER TO CURRENT_USER",
    "ALTER DATABASE {database} SET search_path = pg_temp",
    "SET session_replication_role = replica",
    "SET allow_system_table_mods = on",
    "UPDATE pg_proc SET prosecdef = false",
    "DELETE FROM pg_class",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_create_physical_replication_slot('x')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stellwerk'",
)


@pytest.fixture(scope="module")
def app_url(shared_database_url: str) -> str:
    return as_app(shared_database_url)


@pytest.fixture
def app(app_url: str) -> Iterator[Db]:
    with psycopg.connect(app_url, row_factory=tuple_row) as db:
        yield db
        db.rollback()


@pytest.fixture
def superuser(shared_database_url: str) -> Iterator[Db]:
    with psycopg.connect(shared_database_url, row_factory=tuple_row) as db:
        yield db


@contextmanager
def undone(db: Db) -> Iterator[None]:
    with db.transaction(force_rollback=True):
        yield


def is_allowed(db: Db, statement: str) -> bool:
    """Permissions are looked at before rows are, so a statement on none shows them."""
    try:
        with undone(db):
            db.execute(statement.encode())
    except errors.InsufficientPrivilege:
        return False
    return True


def columns(db: Db) -> list[tuple[str, str, str]]:
    return db.execute(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1, a.attnum"
    ).fetchall()


def test_every_object_has_declared_rights(superuser: Db) -> None:
    assert undeclared(superuser) == []
    with undone(superuser):
        superuser.execute("CREATE TABLE forgotten (n int GENERATED ALWAYS AS IDENTITY)")
        superuser.execute("CREATE FUNCTION left_out() RETURNS int LANGUAGE sql RETURN 1")
        assert undeclared(superuser) == ["forgotten", "forgotten_n_seq", "left_out"]


def test_every_statement_on_every_column(app: Db) -> None:
    for table, column, kind in columns(app):
        name = f'{table}."{column}"'
        seen = is_allowed(app, f'SELECT "{column}" FROM {table} WHERE false')
        assert seen == (table not in UNSEEN), name
        inserted = f'INSERT INTO {table} ("{column}") OVERRIDING SYSTEM VALUE SELECT NULL::{kind} WHERE false'
        assert is_allowed(app, inserted) == (column in INSERTED.get(table, "").split()), name
        is_identity = (table, column) == ("events", "position")
        value = "DEFAULT" if is_identity else "NULL"
        updated = f'UPDATE {table} SET "{column}" = {value} WHERE false'
        assert is_allowed(app, updated) == (column in UPDATED.get(table, "").split()), name


def test_every_statement_on_every_table(app: Db) -> None:
    tables = {table for table, *_ in columns(app)}
    assert tables == READ_ONLY | UNSEEN | INSERTED.keys() | UPDATED.keys()
    for table in tables:
        assert is_allowed(app, f"DELETE FROM {table} WHERE false") == (table in DELETED), table
        assert is_allowed(app, f"SELECT FROM {table} WHERE false FOR UPDATE") == (table in UPDATED), table
        for statement in ON_EVERY_TABLE:
            if statement.startswith("LOCK") and (table in DELETED or table in UPDATED):
                continue  # who may change all rows may keep others from them, too
            assert not is_allowed(app, statement.format(table)), statement.format(table)


def test_every_statement_on_every_sequence(app: Db) -> None:
    for (name,) in app.execute("SELECT relname FROM pg_class WHERE relkind = 'S'").fetchall():
        assert is_allowed(app, f"SELECT nextval('{name}')") == (name in DRAWN_FROM), name
        for statement in ("SELECT setval('{}', 1)", "SELECT last_value FROM {}", "ALTER SEQUENCE {} RESTART",
                          "DROP SEQUENCE {}"):  # fmt: skip
            assert not is_allowed(app, statement.format(name)), statement.format(name)


def test_every_statement_on_every_function(app: Db) -> None:
    found = app.execute(
        "SELECT proname, oid::regprocedure::text, array(SELECT format('NULL::%s', t::regtype)"
        " FROM unnest(proargtypes) WITH ORDINALITY AS u(t, n) ORDER BY n)"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    ).fetchall()
    assert {name for name, *_ in found} >= NOT_CALLED
    for name, signature, nulls in found:
        try:
            called = is_allowed(app, f"SELECT {name}({', '.join(nulls)})")
        except psycopg.Error:  # it ran, and wants arguments
            called = True
        assert called == (name not in NOT_CALLED), signature
        for statement in (
            "DROP FUNCTION {}",
            "ALTER FUNCTION {} SECURITY INVOKER",
            "ALTER FUNCTION {} SET search_path = pg_temp",
            "ALTER FUNCTION {} OWNER TO CURRENT_USER",
            "GRANT EXECUTE ON FUNCTION {} TO PUBLIC" if name in NOT_CALLED else "ALTER FUNCTION {} RESET ALL",
        ):
            assert not is_allowed(app, statement.format(signature)), statement.format(signature)


@pytest.mark.parametrize("statement", NEVER)
def test_what_it_never_may(app: Db, statement: str) -> None:
    database = app.info.dbname
    assert not is_allowed(app, statement.format(database=database))


@pytest.mark.parametrize("statement", OUTSIDE_OF_TRANSACTIONS)
def test_what_it_never_may_outside_of_transactions(app: Db, statement: str) -> None:
    app.autocommit = True
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(statement.format(database=app.info.dbname).encode())


@pytest.mark.parametrize("statement", CHANGES_NOTHING_OF_OTHERS)
def test_what_harms_only_itself(app: Db, statement: str) -> None:
    assert is_allowed(app, statement)


def test_it_gives_itself_nothing(app: Db) -> None:
    app.add_notice_handler(lambda notice: None)
    with undone(app):
        app.execute("GRANT ALL ON events, streams TO CURRENT_USER")
        assert not is_allowed(app, "UPDATE events SET agent = NULL WHERE false")


def test_a_role_that_is_neither_may_nothing(superuser: Db) -> None:
    with undone(superuser):
        superuser.execute("CREATE ROLE passing_by; SET ROLE passing_by")
        for table in {table for table, *_ in columns(superuser)}:
            assert not is_allowed(superuser, f"SELECT FROM {table}"), table
        for call in ("create_stream(NULL, NULL, NULL)", "stream_lock_key(NULL)", "observe_cluster()"):
            assert not is_allowed(superuser, f"SELECT {call}"), call
