"""The two roles of a database: `stellwerk_owner` has everything and runs migrations, `stellwerk_app` does the work.

Roles belong to the cluster, so another database may have made them. At each migration, as far as the role that
migrates may do it:

    make the roles ─▶ take over what others own ─▶ migrate as the owner, and grant after each version (app/rights.py)

What it may not do it returns as statements for a role that may; the rest goes on, with one role for everything.
"""

from dataclasses import dataclass, field
from typing import Any

import structlog
from psycopg import Connection, errors
from psycopg.sql import SQL, Composed, Identifier, Literal
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from app.rights import FUNCTIONS, TABLES

logger = structlog.get_logger(__name__)

OWNER = "stellwerk_owner"
APP = "stellwerk_app"

Database = Connection[Any]


@dataclass(slots=True)
class Prepared:
    """Whether the connection works as the owner now, and which statements were not allowed to its role."""

    as_owner: bool = False
    refused: list[str] = field(default_factory=list)


def prepare(db: Database, app: URL | None) -> Prepared:
    """Makes roles and owners so that the connection, which commits each statement, works as the owner from now on.

    `app` is the address at which gateway and workers come, whose role is made and admitted. A connection that is not
    allowed to do all of it stays the role that it is.
    """
    prepared = Prepared()
    refused = prepared.refused
    me = str(_value(db, "SELECT current_user"))
    if _value(db, _BELONGS_TO_ANOTHER, OWNER):  # to the owner, and this is the application: it has nothing to do here
        return prepared
    for role in (OWNER, APP):
        if not _exists(db, role):
            _do(db, refused, SQL("CREATE ROLE {} NOLOGIN"), role)
    if not _is_member(db, me, OWNER):
        _do(db, refused, SQL("GRANT {} TO {}"), OWNER, me)
    _open_schema(db, refused)
    if app is not None and app.username not in {None, me}:
        _admit(db, refused, app)
    for statement in [] if refused else _owned_by_others(db, me):
        try:
            _take_over(db, statement)
        except errors.InsufficientPrivilege:
            refused.append(statement.as_string(db))
    if not refused:
        db.execute(_filled(SQL("SET ROLE {}"), OWNER))
        prepared.as_owner = True
    return prepared


_BELONGS_TO_ANOTHER = """
SELECT EXISTS (SELECT FROM pg_class c, pg_roles me
               WHERE c.oid = to_regclass('events') AND pg_get_userbyid(c.relowner) = %s AND me.rolname = current_user
                 AND NOT me.rolcreaterole AND NOT pg_has_role(c.relowner, 'MEMBER'))
"""


def _open_schema(db: Database, refused: list[str]) -> None:
    """The owner may make objects in it, the application look at them, and nobody else make any: what their functions
    find is theirs."""
    schema = str(_value(db, "SELECT current_schema()"))
    for role, rights in ((OWNER, ("USAGE", "CREATE")), (APP, ("USAGE",))):
        for right in rights:
            grant, so_far = SQL(f"GRANT {right} ON SCHEMA {{}} TO {{}}"), len(refused)
            if not _may(db, role, schema, right):
                _do(db, refused, grant, schema, role)
                if len(refused) == so_far and not _may(db, role, schema, right):  # Postgres only warned
                    refused.append(_filled(grant, schema, role).as_string(db))
    open_to_all = (
        "SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) AS a"
        " WHERE nspname = %s AND a.grantee = 0 AND a.privilege_type = 'CREATE')"
    )
    if not refused and _value(db, open_to_all, schema):  # as in databases that were made before Postgres 15
        _do(db, refused, SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC"), schema)


def _admit(db: Database, refused: list[str], app: URL) -> None:
    """Makes the role that the address names, or lets it log in. One that can log in already keeps its password."""
    name = str(app.username)
    found = db.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    verb = "CREATE" if found is None else "ALTER"
    if found is None or (name == APP and not found[0]):
        password = db.pgconn.encrypt_password(str(app.password or "").encode(), name.encode(), b"scram-sha-256")
        statement = SQL(f"{verb} ROLE {{}} LOGIN PASSWORD {{}}").format(Identifier(name), Literal(password.decode()))
        # What is said of it names no password, not even its digest.
        said = f"{verb} ROLE {Identifier(name).as_string(db)} LOGIN PASSWORD '…'"
        _run(db, refused, statement, said)
    if not _is_member(db, name, APP):
        _do(db, refused, SQL("GRANT {} TO {}"), APP, name)


def let_in(db: Database, role: str, password: str) -> None:
    """Makes a role that logs in with this password, or gives it that password. Needs a superuser."""
    if not _exists(db, role):
        _do(db, [], SQL("CREATE ROLE {} NOLOGIN"), role)
    encrypted = db.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    db.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(Identifier(role), Literal(encrypted)))


_OTHERS_OBJECTS = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, pg_get_userbyid(c.relowner)
FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p', 'v')
  AND pg_get_userbyid(c.relowner) <> %(owner)s
UNION ALL
SELECT 'FUNCTION', p.oid::regprocedure::text, pg_get_userbyid(p.proowner)
FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = ANY(%(functions)s)
  AND pg_get_userbyid(p.proowner) <> %(owner)s
"""


def _owned_by_others(db: Database, me: str) -> list[Composed]:
    """One statement for each object, since REASSIGN OWNED fails where the cluster's first superuser is the owner."""
    names = {"tables": [*TABLES], "functions": [*FUNCTIONS], "owner": OWNER}
    found = db.execute(_OTHERS_OBJECTS, names).fetchall()
    ordinary = {owner for *_, owner in found if owner != me and not _is_superuser(db, owner)}
    # What works as the former owner goes on, with all its rights: it may be of the version before.
    grants = [SQL("GRANT {} TO {}").format(Identifier(OWNER), Identifier(owner)) for owner in sorted(ordinary)]
    return [
        *grants,
        *(SQL(f"ALTER {kind} {name} OWNER TO {{}}").format(Identifier(OWNER)) for kind, name, _ in found),
    ]


@retry(
    retry=retry_if_exception_type(errors.LockNotAvailable),
    wait=wait_random(0.1, 0.3),
    stop=stop_after_delay(60),
    reraise=True,
)
def _take_over(db: Database, statement: Composed) -> None:
    """A table's lock is waited for only shortly, again and again: what comes after it would wait as long."""
    with db.transaction():
        db.execute("SET LOCAL lock_timeout = '200ms'")
        db.execute(statement)


def _do(db: Database, refused: list[str], statement: SQL, *names: str) -> None:
    filled = _filled(statement, *names)
    _run(db, refused, filled, filled.as_string(db))


def _run(db: Database, refused: list[str], statement: Composed, said: str) -> None:
    try:
        db.execute(statement)
    except (errors.DuplicateObject, errors.UniqueViolation):
        pass  # another database of the cluster was quicker
    except (errors.InsufficientPrivilege, errors.UndefinedObject):  # the latter after a role could not be made
        refused.append(said)


def _filled(statement: SQL, *names: str) -> Composed:
    return statement.format(*map(Identifier, names))


def _exists(db: Database, role: str) -> bool:
    return bool(_value(db, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role))


def _may(db: Database, role: str, schema: str, right: str) -> bool:
    return _exists(db, role) and bool(_value(db, "SELECT has_schema_privilege(%s, %s, %s)", role, schema, right))


def _is_superuser(db: Database, role: str) -> bool:
    return bool(_value(db, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", role))


def _is_member(db: Database, role: str, of: str) -> bool:
    """A superuser is a member of every role, and has no need to be."""
    if not _exists(db, role) or not _exists(db, of):
        return False
    return bool(_value(db, "SELECT pg_has_role(%s, %s, 'USAGE')", role, of))


def _value(db: Database, query: str, *arguments: Any) -> Any:
    row = db.execute(query.encode(), arguments).fetchone()
    return row[0] if row else None


POWER = """
SELECT current_user::text, rolsuper, coalesce(pg_has_role(c.relowner, 'USAGE'), false)
FROM pg_roles LEFT JOIN pg_class c ON c.oid = to_regclass('events') WHERE rolname = current_user
"""


def describe_power(role: str, is_superuser: bool, is_owner: bool) -> str | None:
    """What a role of gateway and workers may do beyond its work, and what to do about it; None: nothing."""
    if not (is_superuser or is_owner):
        return None
    what = "is a superuser" if is_superuser else "owns the log"
    return (
        f"gateway and workers come as {role}, which {what} and so may rewrite history: move this address to"
        f" STELLWERK_MIGRATE_URL, set STELLWERK_DATABASE_URL to one with the user {APP} and a password of its own,"
        " and run `stellwerk migrate`"
    )


async def warn_of_power(engine: AsyncEngine) -> None:
    """Says in the log, when a process starts, that it may do more than its work."""
    async with engine.connect() as db:
        row = (await db.execute(text(POWER))).one()
    if (said := describe_power(*row)) is not None:
        logger.warning(said)
