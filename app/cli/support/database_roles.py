"""What commands do as the owner of a database, and what they say of the role as which gateway and workers come."""

import psycopg

from app.cli.support.finding import OK, WARN, Finding
from app.config import Settings
from app.database import libpq_url
from app.embedded.home import read_private
from app.embedded.postgres import FILE
from app.roles import POWER, describe_power

PATIENCE = 5


def owner_url(settings: Settings) -> str:
    """The address for what only the owner may: the setting, else that of the embedded server, else what there is."""
    if settings.migrate_url is not None:
        return settings.migrate_url
    kept = read_private(settings.home / FILE)
    found = kept.get("owner_url") if kept.get("url") == settings.database_url else None
    return str(found or settings.database_url or "")


def try_login(address: str) -> str | None:
    """Returns why the address does not open the database; None where it does."""
    try:
        psycopg.connect(libpq_url(address), connect_timeout=PATIENCE).close()
    except psycopg.OperationalError as error:
        return str(error).strip()
    return None


def examine_role(db: psycopg.Connection[tuple[object, ...]]) -> Finding:
    """Whether what gateway and workers may do is only their work."""
    row = db.execute(POWER).fetchone()
    assert row is not None
    role, is_superuser, is_owner = row
    said = describe_power(str(role), bool(is_superuser), bool(is_owner))
    return Finding(WARN, "role", said) if said else Finding(OK, "role", f"{role}, which may not rewrite history")
