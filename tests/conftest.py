"""Real servers for the tests: one embedded Postgres and one Valkey for each run of pytest."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sentinel import Sentinel
from app.embedded.valkey import EmbeddedValkey
from app.schema import migrate
from tests.roles import remember
from tests.surroundings import be_plain, forget_the_proxies, forget_the_shell, use_ordinary_programs

forget_the_shell()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores it for them and for all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = "migrated"
_database_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="as if no optional program were installed here")
    parser.addoption(
        "--long", action="store_true", help="10,000 random graphs, 2,000 made-up projects, 60 s of silence"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("plain"):
        be_plain()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """CI installs everything, so a test that is skipped there would never run anywhere."""
    if os.environ.get("CI") == "true" and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI must not skip. {reason}"


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A home that nobody, as whom root's Postgres runs, can reach: pytest's own tmp_path is closed to it."""
    home = Path(tempfile.mkdtemp(prefix="stellwerk-test-"))
    try:
        yield home
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session", autouse=True)
def plain_surroundings() -> Iterator[None]:
    """No program that is not asked for, no proxy, nobody's git configuration, and no `.env`, for the one in the
    checkout is for its owner's stack."""
    forget_the_proxies()
    before = Path.cwd()
    with temporary_home() as directory:
        directory.chmod(0o755)
        programs, here, own_home = directory / "programs", directory / "here", directory / "home"
        for place in (programs, here, own_home):
            place.mkdir()
            place.chmod(0o755)
        use_ordinary_programs(programs)
        os.environ["HOME"] = str(own_home)
        os.chdir(here)
        yield
        os.chdir(before)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty STELLWERK_HOME."""
    with temporary_home() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The run's Postgres; tests that stop or restart one make their own in `home`."""
    with temporary_home() as directory, Sentinel(directory):
        server = EmbeddedPostgres(directory)
        server.start()
        remember(server)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the schema in it, which costs milliseconds to copy."""
    execute(postgres.superuser_url, f"CREATE DATABASE {TEMPLATE}")
    migrate(url_of(postgres, TEMPLATE))
    return TEMPLATE


@contextmanager
def fresh_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_database_numbers)}"
    execute(postgres.superuser_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield url_of(postgres, name)
    execute(postgres.superuser_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A fresh database with the schema in it."""
    with fresh_database(postgres, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A fresh database for all tests of a module."""
    with fresh_database(postgres, migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database without any table, for tests of the migrations."""
    name = f"test_{next(_database_numbers)}"
    execute(postgres.superuser_url, f"CREATE DATABASE {name}")
    yield url_of(postgres, name)
    execute(postgres.superuser_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    with temporary_home() as directory, Sentinel(directory):
        server = EmbeddedValkey(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> str:
    """The run's Valkey, emptied."""
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture
def own_valkey(home: Path) -> Iterator[EmbeddedValkey]:
    """A started Valkey that the test may stop, start and kill."""
    server = EmbeddedValkey(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(statement.encode())


def url_of(server: EmbeddedPostgres, database: str) -> str:
    return f"{server.superuser_url.rpartition('/')[0]}/{database}"
