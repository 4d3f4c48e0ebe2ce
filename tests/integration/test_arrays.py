"""Arrays in Postgres' binary format, against the server that reads them."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.events import arrays


@pytest.mark.parametrize(
    ("column_type", "array", "values"),
    [
        ("uuid", arrays.uuids, [UUID(int=1), None, UUID(int=2**128 - 1), UUID(int=1)]),
        ("text", arrays.texts, ["", None, "one", "zwölf 🎯", "one", "NULL"]),
        ("text", arrays.texts, [None, None]),
        ("text", arrays.texts, []),
        ("text", arrays.various_texts, ["", "zwölf 🎯", 'quotes " and \\', "x" * 300_000]),
        ("integer", arrays.integers, [0, -1, None, 2**31 - 1, -(2**31)]),
        ("bytea", arrays.byteas, [b"", b"\x00\xff", bytes(range(256))]),
    ],
)
def test_values_arrive_as_they_are(database_url: str, column_type: str, array: Any, values: Sequence[object]) -> None:
    with closing(psycopg.connect(database_url)) as db:
        row = db.execute(f"SELECT %b::{column_type}[]", [array(values)]).fetchone()
    assert row == (values,)


def test_a_number_that_no_column_takes_is_refused_by_name() -> None:
    with pytest.raises(psycopg.DataError, match="2147483648"):
        arrays.integers([1, 2**31])
