"""Making the two roles: in place, as far as the role that migrates may, and in clusters that know nothing of them."""

import asyncio
import gzip
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import errors, sql
from sqlalchemy import make_url

from app.cli.support.database_roles import examine_role
from app.cli.support.finding import OK, WARN
from app.database import create_engine
from app.embedded.installation import postgres_binary, runner
from app.embedded.postgres import EmbeddedPostgres
from app.errors import MissingRight
from app.events.epochs import observe_cluster
from app.grants import undeclared
from app.rights import FUNCTIONS, TABLES
from app.roles import APP, OWNER, warn_of_power
from app.schema import check_schema, migrate
from tests.conftest import temporary_home
from tests.following import append, engine_of, new_stream
from tests.roles import as_app

OLD_DUMP = Path(__file__).parents[1] / "databases" / "c8f0eb1.sql.gz"
_numbers = count(1)

_OWNERS = """
SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedPostgres]:
    with temporary_home() as directory:
        server = EmbeddedPostgres(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def bare(cluster: EmbeddedPostgres) -> Iterator[str]:
    """The superuser's address of an empty database in a cluster without our roles."""
    name = f"bare_{next(_numbers)}"
    run(cluster.superuser_url, f"CREATE DATABASE {name}")
    remove_roles(cluster.superuser_url)
    url = make_url(cluster.superuser_url).set(database=name)
    yield url.render_as_string(hide_password=False)
    run(cluster.superuser_url, f"DROP DATABASE {name} WITH (FORCE)")


def remove_roles(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        found = db.execute("SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_'").fetchall()
        for (role,) in found:
            for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
                db.execute(sql.SQL(statement).format(sql.Identifier(role)))


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as db:
        rows = db.execute(query.encode()).fetchall()
    return [row[0] for row in rows]


def login(url: str, user: str, password: str = "its-own") -> str:
    return make_url(url).set(username=user, password=password).render_as_string(hide_password=False)


def restore_old(url: str) -> None:
    psql(url, gzip.decompress(OLD_DUMP.read_bytes()).decode())


def psql(url: str, script: str, *, stops: bool = True) -> None:
    done = runner().run(
        [postgres_binary("psql"), f"--dbname={url}", "--quiet", "--no-psqlrc", f"--set=ON_ERROR_STOP={int(stops)}"],
        script,
    )
    assert not stops or done.returncode == 0, done.stdout


async def works(url: str) -> None:
    """As a process that writes and reads the log."""
    async with engine_of(url) as engine:
        await append(engine, await new_stream(engine), range(2))


async def test_what_a_superuser_owned_is_taken_over_in_place(bare: str) -> None:
    restore_old(bare)
    app = login(bare, APP)
    assert migrate(bare, app=app) == []
    assert value(bare, _OWNERS) == [OWNER]
    await works(app)
    await works(bare)  # as gateways and workers of before come
    with pytest.raises(errors.InsufficientPrivilege):
        run(app, "UPDATE events SET agent = NULL")
    assert migrate(bare, app=app) == []


async def test_the_application_finds_a_schema_up_to_date_or_says_who_may(bare: str) -> None:
    app = login(bare, APP)
    assert migrate(bare, "0006", app=app) == []
    with pytest.raises(MissingRight, match="STELLWERK_MIGRATE_URL"):
        migrate(app, app=app)
    assert migrate(bare, app=app) == []
    written = "SELECT max(xmin::text::bigint) FROM pg_class UNION SELECT max(xmin::text::bigint) FROM pg_proc"
    before = value(bare, written)
    assert migrate(app, app=app) == migrate(bare, app=app) == []
    assert value(bare, written) == before, "what is granted already is not written again"


async def test_a_table_that_is_in_use_is_waited_for_and_holds_up_nobody(bare: str) -> None:
    restore_old(bare)
    with psycopg.connect(bare) as holding:
        holding.execute("LOCK TABLE streams IN ROW EXCLUSIVE MODE")
        async with engine_of(bare) as engine:
            migrating = asyncio.create_task(asyncio.to_thread(migrate, bare))
            waited = "SELECT count(*) FROM pg_locks WHERE relation = 'streams'::regclass AND NOT granted"
            while value(bare, waited) != [1]:
                assert not migrating.done()
                await asyncio.sleep(0.01)
            async with asyncio.timeout(10):
                async with engine.connect() as db:
                    await db.exec_driver_sql("LOCK TABLE streams IN ROW EXCLUSIVE MODE")
            holding.rollback()
            assert await migrating == []
    assert value(bare, _OWNERS) == [OWNER]


async def test_without_the_right_to_make_roles_one_does_everything(bare: str) -> None:
    run(bare, "CREATE ROLE plain LOGIN PASSWORD 'its-own'", "GRANT CREATE ON SCHEMA public TO plain")
    plain = login(bare, "plain")
    refused = migrate(plain, app=plain)
    assert refused == [
        f'CREATE ROLE "{OWNER}" NOLOGIN',
        f'CREATE ROLE "{APP}" NOLOGIN',
        f'GRANT "{OWNER}" TO "plain"',
        f'GRANT USAGE ON SCHEMA "public" TO "{OWNER}"',
        f'GRANT CREATE ON SCHEMA "public" TO "{OWNER}"',
        f'GRANT USAGE ON SCHEMA "public" TO "{APP}"',
    ]
    check_schema(plain)
    assert value(bare, _OWNERS) == ["plain"]
    await works(plain)
    with psycopg.connect(plain) as db:
        finding = examine_role(db)
    assert finding.level == WARN and "STELLWERK_MIGRATE_URL" in finding.detail
    # A superuser runs what it said, and the next migration does the rest.
    run(bare, *refused)
    assert migrate(plain, app=plain) == []
    assert value(bare, _OWNERS) == [OWNER]
    await works(plain)


async def test_who_may_make_roles_makes_them(bare: str) -> None:
    run(bare, "CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'its-own'", "CREATE ROLE someone LOGIN PASSWORD 'its-own'")
    name = make_url(bare).database
    run(bare, f"ALTER DATABASE {name} OWNER TO maker")
    maker, app = login(bare, "maker"), login(bare, "our_app")
    assert migrate(maker, app=app) == []
    assert value(bare, _OWNERS) == [OWNER]
    await works(app)  # a role of another name, which was made
    assert migrate(maker, app=login(bare, "someone")) == []
    await works(login(bare, "someone"))  # and one that there was
    with pytest.raises(errors.InsufficientPrivilege):
        run(app, "DELETE FROM events")


async def test_two_databases_of_a_cluster_share_the_roles(bare: str, cluster: EmbeddedPostgres) -> None:
    app = login(bare, APP)
    assert migrate(bare, app=app) == []
    run(cluster.superuser_url, "CREATE DATABASE second")
    try:
        second = make_url(bare).set(database="second").render_as_string(hide_password=False)
        assert migrate(second, app=login(second, APP, "another")) == []
        await works(app)  # whose password stays as it is
        await works(login(second, APP))
    finally:
        run(cluster.superuser_url, "DROP DATABASE second WITH (FORCE)")


@pytest.mark.parametrize("options", [(), ("--no-owner", "--no-privileges")])
async def test_a_dump_is_restored_in_a_cluster_without_the_roles(
    bare: str, database_url: str, options: tuple[str, ...]
) -> None:
    async with engine_of(as_app(database_url)) as engine:
        stream_id = await new_stream(engine)
        await append(engine, stream_id, range(3))
    dumped = runner().run([postgres_binary("pg_dump"), f"--dbname={database_url}", *options])
    assert dumped.returncode == 0, dumped.stdout
    psql(bare, dumped.stdout, stops=bool(options))  # psql says that the roles are missing, and goes on
    app = login(bare, APP)
    assert migrate(bare, app=app) == []
    assert value(bare, _OWNERS) == [OWNER]
    async with engine_of(app) as engine:
        await observe_cluster(engine)  # as every process does that starts
    await works(app)
    assert value(app, f"SELECT head FROM streams WHERE stream_id = '{stream_id}'") == [3]
    with psycopg.connect(bare) as db:
        assert undeclared(db) == []


@pytest.mark.parametrize("may_rewrite", [True, False])
async def test_a_process_that_may_rewrite_history_says_so_once(database_url: str, may_rewrite: bool) -> None:
    url = database_url if may_rewrite else as_app(database_url)
    engine = create_engine(url, pool_size=1)
    with structlog.testing.capture_logs() as lines:
        await warn_of_power(engine)
    await engine.dispose()
    with psycopg.connect(url) as db:
        finding = examine_role(db)
    if may_rewrite:
        assert len(lines) == 1 and "is a superuser and so may rewrite history" in lines[0]["event"]
    else:
        assert lines == []
    assert finding.level == (WARN if may_rewrite else OK)


def test_what_is_declared_is_there(database_url: str) -> None:
    with psycopg.connect(database_url) as db:
        tables = {row[0] for row in db.execute("SELECT relname FROM pg_class WHERE relkind = 'r'")}
        functions = {row[0] for row in db.execute("SELECT proname FROM pg_proc")}
    assert TABLES.keys() <= tables and FUNCTIONS.keys() <= functions
