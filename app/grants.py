"""Granting what `rights.py` declares, on all objects that there are; what is granted already is not written again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Identifier

from app.rights import FUNCTIONS, SEQUENCES, TABLES, Function, TableRights
from app.roles import APP

Database = Connection[Any]


class Right(NamedTuple):
    """What a role may do with an object, or with a column of it."""

    verb: str
    column: str = ""
    grantee: str = APP


_RELATIONS = """
SELECT 'TABLE', c.relname, c.oid::regclass::text, array_agg(a.attname::text) FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') GROUP BY c.oid
UNION ALL
SELECT 'SEQUENCE', relname, oid::regclass::text, '{}'
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S'
"""
_FUNCTIONS = """
SELECT proname, oid::regprocedure::text,
       prosecdef AND coalesce('search_path=pg_catalog, ' || quote_ident(current_schema()) || ', pg_temp'
                              = ANY (proconfig), false)
FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
"""
_GRANTED = """
SELECT of.object, a.privilege_type, of.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
FROM (SELECT oid::regclass::text, '', relacl FROM pg_class WHERE relnamespace = current_schema()::regnamespace
      UNION ALL
      SELECT attrelid::regclass::text, attname, attacl FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
      WHERE relnamespace = current_schema()::regnamespace
      UNION ALL
      SELECT oid::regprocedure::text, '', coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
      WHERE pronamespace = current_schema()::regnamespace) AS of (object, name, acl), aclexplode(of.acl) AS a
WHERE a.grantee = 0 OR pg_get_userbyid(a.grantee) = %s
"""


def grant(db: Database) -> None:
    """Grants, as the owner, what of the declared objects this version of the schema has. In one transaction with what
    made them: a function that was replaced has lost its attributes."""
    granted = defaultdict[str, set[Right]](set)
    for name, *right in db.execute(_GRANTED, (APP,)).fetchall():
        granted[name].add(Right(*right))
    for kind, declared, name, columns in db.execute(_RELATIONS).fetchall():
        if declared in TABLES or declared in SEQUENCES:
            wanted = set(_of_table(TABLES[declared], columns) if kind == "TABLE" else _of_sequence(declared))
            _change(db, kind, name, granted[name], wanted)
    for declared, name, is_door in db.execute(_FUNCTIONS).fetchall():
        if (access := FUNCTIONS.get(declared)) is not None:
            _change(db, "FUNCTION", name, granted[name], set() if access is Function.INNER else {Right("EXECUTE")})
            if access is Function.DOOR and not is_door:
                _open_door(db, name)


def undeclared(db: Database) -> list[str]:
    """Objects of the schema of which `rights.py` says nothing."""
    relations = {name for _, name, *_ in db.execute(_RELATIONS)} - TABLES.keys() - SEQUENCES.keys()
    return sorted(relations | {name for name, *_ in db.execute(_FUNCTIONS)} - FUNCTIONS.keys())


def _of_table(rights: TableRights, columns: Iterable[str]) -> Iterator[Right]:
    if rights.select:
        yield Right("SELECT")
    if rights.delete:
        yield Right("DELETE")
    for verb, declared in (("INSERT", rights.insert), ("UPDATE", rights.update)):
        yield from (Right(verb, column) for column in declared if column in columns)


def _of_sequence(name: str) -> Iterator[Right]:
    if SEQUENCES[name]:
        yield Right("USAGE")


def _change(db: Database, kind: str, name: str, granted: set[Right], wanted: set[Right]) -> None:
    if granted == wanted:
        return
    db.execute(SQL(f"REVOKE ALL ON {kind} {name} FROM PUBLIC, {{}}").format(Identifier(APP)))
    for right in sorted(wanted):
        column = SQL("({})").format(Identifier(right.column)) if right.column else SQL("")
        statement = SQL(f"GRANT {right.verb} {{}} ON {kind} {name} TO {{}}")
        db.execute(statement.format(column, Identifier(APP)))


def _open_door(db: Database, function: str) -> None:
    # Temporary tables, which any role can make, are looked for last; without their name they would come first.
    schema = db.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    path = SQL("pg_catalog, {}, pg_temp").format(Identifier(*schema))
    db.execute(SQL(f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = {{}}").format(path))
