"""Errors in one line of the log: no secret is in it, nor the half of one."""

from app.errors import MAX_DESCRIPTION, describe
from app.redaction import Redactor

SECRET = "correct-horse-battery"


def test_a_secret_is_hidden_before_the_line_is_cut() -> None:
    redactor = Redactor([SECRET])
    told = describe(ValueError("x" * (MAX_DESCRIPTION - 8) + SECRET), redactor.text)
    assert SECRET[:4] not in told and told.endswith("…")
    assert describe(ValueError(f"{SECRET} is wrong"), redactor.text) == "ValueError: [redacted] is wrong"
