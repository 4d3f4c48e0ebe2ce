"""Taking secrets out of texts for people: the values that this process knows, and what looks like a key."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from app.key_shapes import Span, hidden, key_spans, may_hold_key
from app.known_secrets import Secrets

_OF_KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"
"""The characters of which every key of a known shape consists, but a private key's block and addresses."""
_OPEN_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,60}-*\Z|-----BEGIN [A-Z ]{0,60}PRIVATE KEY-----")
_BLOCK_ENDS = re.compile(r"-----END [A-Z ]{0,60}PRIVATE KEY-----")
_OPEN_ADDRESS = re.compile(r"://[^\s\"'<>/]*\Z")
_WORDS_BEFORE = ("Bearer ", "bearer ", "Basic ", "basic ")


class Redactor:
    """Hides known secrets and what looks like a key, in texts for people."""

    def __init__(self, secrets: Secrets | Iterable[str]) -> None:
        self._secrets = secrets if isinstance(secrets, Secrets) else Secrets.unnamed(secrets)

    def may_change(self, data: bytes) -> bool:
        """The quick look, at a text's UTF-8 or at a value's JSON: False means that nothing is to be hidden."""
        return may_hold_key(data) or self._secrets.may_be_in(data)

    def text(self, text: str) -> str:
        if not self.may_change(text.encode(errors="surrogatepass")):
            return text
        return hidden(text, self._spans(text))

    def known(self, text: str) -> str:
        """Hides what is known, and leaves alone what only looks like a key."""
        return hidden(text, [(found.start, found.end) for found in self._secrets.found_in(text)])

    def value(self, value: Any) -> Any:
        """The same shape, with every text in it redacted, keys of dicts included."""
        return each_text(value, self.text)

    def _spans(self, text: str) -> list[Span]:
        known = [*self._secrets.partly_in(text), *((found.start, found.end) for found in self._secrets.found_in(text))]
        return sorted([*known, *key_spans(text)], key=lambda span: (span[0], -span[1]))

    def settled(self, text: str) -> int:
        """Returns how many characters of a text that goes on can be redacted and shown: no secret reaches over them.

        Words that come in pieces are shown in pieces, and a secret in two halves looks like none.
        """
        end = len(text.rstrip(_OF_KEYS))
        end -= max((len(word) for word in _WORDS_BEFORE if text.endswith(word, 0, end)), default=0)
        if address := _OPEN_ADDRESS.search(text):
            end = min(end, address.start())
        if (block := _open_block(text)) is not None:
            end = min(end, block)
        cut = (start for start, stop in key_spans(text) if start < end < stop)
        end = min(cut, default=end)
        while overlap := max((_begun(form.text, text, end) for form in self._secrets.forms), default=0):
            end -= overlap
        return end


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """The same shape, with every text in it changed, keys of dicts included."""
    match value:
        case str():
            return change(value)
        case dict():
            return {each_text(key, change): each_text(item, change) for key, item in value.items()}
        case list() | tuple():
            return [each_text(item, change) for item in value]
        case _:
            return value


def _open_block(text: str) -> int | None:
    """Where a private key begins, or what may be one, that has not ended yet."""
    last = text.rfind("-----BEGIN ")
    found = _OPEN_BLOCK.match(text, last) if last >= 0 else None
    return last if found and not _BLOCK_ENDS.search(text, last) else None


def _begun(secret: str, text: str, end: int) -> int:
    """With how many of its first characters, but not with all, the secret stands at the end of `text[:end]`."""
    tail = text[max(0, end - len(secret) + 1) : end]
    at = tail.find(secret[0])
    while at >= 0:
        if secret.startswith(tail[at:]):
            return len(tail) - at
        at = tail.find(secret[0], at + 1)
    return 0
