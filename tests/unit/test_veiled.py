"""A column is compared with an event that hides a part of what it said."""

import pytest

from app.events.proof.veiled import is_as_told
from app.key_shapes import HIDDEN


@pytest.mark.parametrize(
    ("stands", "told", "same"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (None, None, True),
        (None, HIDDEN, False),
        (7, 7, True),
        ("/tmp/sk-12345678/b", f"/tmp/{HIDDEN}/b", True),
        ("/tmp/sk-12345678/c", f"/tmp/{HIDDEN}/b", False),
        ("/tmq/sk-12345678/b", f"/tmp/{HIDDEN}/b", False),
        ("/tmp/short/b", f"/tmp/{HIDDEN}/b", False),
        ("https://u:p@host", f"https://{HIDDEN}@host", True),
        ("12345678y12345678", f"{HIDDEN}y{HIDDEN}", True),
        ("12345678z12345678", f"{HIDDEN}y{HIDDEN}", False),
        (HIDDEN, HIDDEN, True),
    ],
)
def test_what_may_have_been_recorded_so(stands: object, told: object, same: bool) -> None:
    assert is_as_told(stands, told) is same


@pytest.mark.timeout(20)
def test_what_hides_much_is_compared_in_one_pass() -> None:
    """As a pattern with so many gaps it would be tried for ever."""
    told = f"a{HIDDEN}" * 400
    assert is_as_told("a12345678" * 400, told)
    assert not is_as_told("a12345678" * 400 + "b" * 7, told + "c")
