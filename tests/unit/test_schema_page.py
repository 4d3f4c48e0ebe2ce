"""migrations/README.md names every table, column, index and function that there is, and no other."""

import re
from collections.abc import Collection

from app.tables import metadata
from tests.readmes import ROOT, SPAN, Found, Page

PAGE = Page("migrations/README.md")
TABLES = "Tables"


def compare(named: list[Found], there: Collection[str], what: str) -> None:
    names = [found.text for found in named]
    wrong = [f"{PAGE.name}:{line}: there is no {what} {name}" for line, name in named if name not in there]
    wrong += [f"{PAGE.name}:{line}: {what} {name} stands there twice" for line, name in named if names.count(name) > 1]
    wrong += [f"{PAGE.name} does not name {what} {name}" for name in sorted(set(there) - set(names))]
    assert not wrong, "\n" + "\n".join(wrong)


def tables_on_the_page() -> list[Found]:
    return [Found(line, text.strip("`")) for line, text in PAGE.headings if text.startswith("`")]


def test_every_table() -> None:
    compare(tables_on_the_page(), metadata.tables, "table")


def test_every_column() -> None:
    for table in tables_on_the_page():
        columns = PAGE.first_cells(f"`{table.text}`")
        compare(columns, metadata.tables[table.text].columns.keys(), f"column of {table.text}")


def test_every_index() -> None:
    indexes = [str(index.name) for table in metadata.tables.values() for index in table.indexes]
    compare(PAGE.first_cells("Indexes"), indexes, "index")


def test_every_function_with_the_file_in_force() -> None:
    in_force: dict[str, str] = {}
    for file in sorted((ROOT / "migrations" / "sql").glob("*.sql")):
        for name in re.findall(r"^CREATE (?:OR REPLACE )?FUNCTION (\w+)", file.read_text(), re.MULTILINE):
            in_force[name] = f"migrations/sql/{file.name}"
    named = PAGE.first_cells("Functions")
    compare(named, in_force, "function")
    told = {name: SPAN.findall(PAGE.lines[line - 1].split("|")[-2])[0][1] for line, name in named}
    assert told == in_force
