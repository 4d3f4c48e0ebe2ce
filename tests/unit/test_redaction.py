"""What is taken out of texts before they are recorded, and what is left alone."""

import pytest

from app.key_shapes import HIDDEN
from app.redaction import Redactor


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
        "sk-ant-api03-abcdefghijklmnop_qrstuvwxyz",
        "pplx-abcdefghijklmnopqrstuvwxyz012345",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "a value that this process knows",
    ],
)
def test_secrets_are_hidden_wherever_they_stand(secret: str) -> None:
    redactor = Redactor(["a value that this process knows", ""])
    assert redactor.text(f"before {secret} after") == f"before {HIDDEN} after"
    nested = {"key": [1, None, (f"x={secret}",)], secret: True}
    assert redactor.value(nested) == {"key": [1, None, [f"x={HIDDEN}"]], HIDDEN: True}


@pytest.mark.parametrize(
    "text", ["risk-averse", "task-1234567890123456-not", "the sk-learn package", "Bearer of bad news", "short", ""]
)
def test_words_that_are_none_are_left_alone(text: str) -> None:
    assert Redactor(["short"]).text(text) == text


def test_a_bearer_token_keeps_its_word() -> None:
    assert Redactor([]).text("Authorization: Bearer abcdefghijklmnop0123") == f"Authorization: Bearer {HIDDEN}"


PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "xx yy zz, and xx yy zz!",
        "xx yy zz",
        PRIVATE_KEY,
    ],
)
@pytest.mark.parametrize("pace", [1, 2, 3, 7, 1000])
def test_a_text_that_comes_in_pieces_is_shown_in_pieces_without_secrets(secret: str, pace: int) -> None:
    redactor = Redactor(["xx yy zz", "xx yy zz, and xx yy zz!"])
    text = f"before {secret} 和 -----BEGIN CERTIFICATE----- {secret}, Bearer abcdefghijklmnop0123 after"
    shown, waiting = "", ""
    for start in range(0, len(text), pace):
        waiting += text[start : start + pace]
        end = redactor.settled(waiting)
        shown, waiting = shown + redactor.text(waiting[:end]), waiting[end:]
    assert shown + redactor.text(waiting) == redactor.text(text)
    assert secret not in redactor.text(text) and len(waiting) < 20


def test_words_are_not_kept_back() -> None:
    assert Redactor([]).settled("what was said so far, and the next wo") == len("what was said so far, and the next ")
    assert Redactor([]).settled("一切都好") == 4
