"""Runs migrations over psycopg 3; two processes that migrate at once take turns."""

from typing import cast

from alembic import context
from sqlalchemy import URL, create_engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import NullPool

from app.config import settings
from app.database import sqlalchemy_url
from app.errors import BadInput
from app.tables import Xid8, metadata

# Any constant will do, as long as nothing else in the database takes it as an advisory lock.
MIGRATION_LOCK = 7_305_808_221_945_021

ischema_names["xid8"] = Xid8  # else reflection warns that it does not know the type


def _url() -> URL:
    if url := context.config.attributes.get("url"):
        return cast("URL", url)
    address = settings().database_url
    if address is None:
        raise BadInput("set STELLWERK_DATABASE_URL to the database that is to be migrated")
    return sqlalchemy_url(address)


def run() -> None:
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.connect() as db:
        db.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        db.commit()
        context.configure(connection=db, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


run()
