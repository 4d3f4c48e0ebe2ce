"""Runs migrations over psycopg 3; two processes that migrate at once take turns."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import psycopg
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import NullPool

from app.config import settings
from app.database import sqlalchemy_url
from app.errors import BadInput
from app.grants import grant
from app.roles import prepare
from app.tables import Xid8, metadata

# Any constant will do, as long as nothing else in the database takes it as an advisory lock.
MIGRATION_LOCK = 7_305_808_221_945_021

ischema_names["xid8"] = Xid8  # else reflection warns that it does not know the type


def _url() -> URL:
    if url := context.config.attributes.get("url"):
        return cast("URL", url)
    address = settings().migrate_url or settings().database_url
    if address is None:
        raise BadInput("set STELLWERK_DATABASE_URL to the database that is to be migrated")
    return sqlalchemy_url(address)


def _driver(db: Connection) -> psycopg.Connection[Any]:
    driver = db.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _works_as_owner(db: Connection) -> bool:
    """Makes the roles where `app.schema` asks for it; says whether all is done by the owner from now on."""
    refused: list[str] | None = context.config.attributes.get("refused")
    if refused is None:
        return False
    driver = _driver(db)
    driver.autocommit = True
    prepared = prepare(driver, context.config.attributes.get("app"))
    driver.autocommit = False
    refused += prepared.refused
    return prepared.as_owner


def _grant(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
    assert ctx.connection is not None
    grant(_driver(ctx.connection))


def run() -> None:
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.connect() as db:
        db.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        db.commit()
        by_owner = _works_as_owner(db)
        context.configure(
            connection=db,
            target_metadata=metadata,
            transaction_per_migration=True,
            on_version_apply=_grant if by_owner else None,
        )
        with context.begin_transaction():
            context.run_migrations()
        if by_owner:  # also what is there without a migration: a dump was restored without its rights
            grant(_driver(db))
            db.connection.commit()


run()
