"""SQL on pages, on a database with the schema in force."""

import psycopg
import pytest

from tests.readmes import PAGES, Found, Page, statements

PLANNED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


@pytest.mark.parametrize("page", [page for page in PAGES if page.blocks("sql")], ids=lambda page: page.name)
def test_statements_can_be_run(page: Page, database_url: str) -> None:
    faults = []
    for block in page.blocks("sql"):
        for line, statement in statements(block):
            try:
                run(database_url, statement)
            except psycopg.Error as error:
                faults.append(Found(line, " ".join(str(error).split())))
    assert not faults, "\n" + "\n".join(f"{page.name}:{line}: {text}" for line, text in faults)


def run(database_url: str, statement: str) -> None:
    """What Postgres can plan is only planned, with `$1` for what a reader fills in; the rest is run and undone."""
    with psycopg.connect(database_url) as db:
        planned = statement.upper().startswith(PLANNED)
        db.execute(f"EXPLAIN (GENERIC_PLAN) {statement}".encode() if planned else statement.encode())
        db.rollback()


def test_the_page_of_the_schema_names_the_functions_of_the_database(database_url: str) -> None:
    with psycopg.connect(database_url) as db:
        rows = db.execute("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        there = {name for (name,) in rows}
    assert {found.text for found in Page("migrations/README.md").first_cells("Functions")} == there
