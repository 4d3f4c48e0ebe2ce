"""Granting what `rights.py` declares, on all objects that there are; done again, it changes nothing."""

from collections.abc import Iterator
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from app.rights import FUNCTIONS, SEQUENCES, TABLES, Function, TableRights
from app.roles import APP

_COLUMNS = """
SELECT c.relname, array_agg(a.attname::text) FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') GROUP BY 1
"""
_SEQUENCES = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S'"
_FUNCTIONS = """
SELECT proname, oid::regprocedure::text, prosecdef AND coalesce(proconfig @> ARRAY[%s], false)
FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
"""


def grant(db: Connection[Any]) -> None:
    """Grants, as the owner, what of the declared objects this version of the schema has. In one transaction with what
    made them: a function that was replaced has lost its attributes."""
    schema = _only(db, "SELECT quote_ident(current_schema())")
    for statement in [*_tables(db), *_sequences(db), *_functions(db, schema)]:
        db.execute(statement)


def undeclared(db: Connection[Any]) -> list[str]:
    """Objects of the schema of which `rights.py` says nothing."""
    tables = {name for name, _ in db.execute(_COLUMNS)} - TABLES.keys()
    sequences = {name for (name,) in db.execute(_SEQUENCES)} - SEQUENCES.keys()
    functions = {name for name, *_ in db.execute(_FUNCTIONS, ("",))} - FUNCTIONS.keys()
    return sorted(tables | sequences | functions)


def _tables(db: Connection[Any]) -> Iterator[Composed]:
    for name, columns in db.execute(_COLUMNS).fetchall():
        if name in TABLES:
            yield _all_revoked("TABLE", Identifier(name))
            yield from _of_table(Identifier(name), TABLES[name], columns)


def _of_table(table: Identifier, rights: TableRights, there_are: list[str]) -> Iterator[Composed]:
    for is_given, right in ((rights.select, "SELECT"), (rights.delete, "DELETE")):
        if is_given:
            yield SQL(f"GRANT {right} ON {{}} TO {{}}").format(table, Identifier(APP))
    for columns, right in ((rights.insert, "INSERT"), (rights.update, "UPDATE")):
        given = [Identifier(column) for column in columns if column in there_are]
        if given:
            yield SQL(f"GRANT {right} ({{}}) ON {{}} TO {{}}").format(SQL(", ").join(given), table, Identifier(APP))


def _sequences(db: Connection[Any]) -> Iterator[Composed]:
    for (name,) in db.execute(_SEQUENCES).fetchall():
        if name in SEQUENCES:
            yield _all_revoked("SEQUENCE", Identifier(name))
            if SEQUENCES[name]:
                yield SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(Identifier(name), Identifier(APP))


def _functions(db: Connection[Any], schema: str) -> Iterator[Composed]:
    # Temporary tables, which any role can make, are looked for last; without their name they would come first.
    path = f"pg_catalog, {schema}, pg_temp"
    for name, signature, is_door in db.execute(_FUNCTIONS, (f"search_path={path}",)).fetchall():
        kind = FUNCTIONS.get(name)
        if kind is None:
            continue
        function = SQL(signature)
        yield _all_revoked("FUNCTION", function)
        if kind is not Function.INNER:
            yield SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(function, Identifier(APP))
        if kind is Function.DOOR and not is_door:
            yield SQL("ALTER FUNCTION {} SECURITY DEFINER SET search_path = {}").format(function, SQL(path))


def _all_revoked(kind: str, name: SQL | Identifier) -> Composed:
    return SQL(f"REVOKE ALL ON {kind} {{}} FROM PUBLIC, {{}}").format(name, Identifier(APP))


def _only(db: Connection[Any], query: str) -> str:
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])
