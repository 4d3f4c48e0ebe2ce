"""Taking secrets out of what is recorded: the values that this process knows, and what looks like a key."""

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "[redacted]"
SHORTEST = 8
"""Characters; a shorter "secret" would also be found where it is none."""

PATTERNS = re.compile(
    r"""
      \b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic and many that copy them
    | \bstw_[0-9A-Za-z]{38}\b | \bstwt_[\w-]{90,}    # our own keys and tickets
    | \bpplx-[A-Za-z0-9]{16,}
    | \b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | \bAIza[\w-]{35}
    | \beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}        # a JSON web token
    | (?<=Bearer\ )[A-Za-z0-9._~+/-]{16,}=*
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?-----END\ [A-Z ]*PRIVATE\ KEY-----
    """,
    re.VERBOSE | re.DOTALL,
)


# Rather too much than too little: a password may hold any character, also those that an address would have encoded.
PASSWORDS = re.compile(
    r"""
      (?<=http://) .*@ | (?<=https://) .*@                          # of user:password@host, or a token in that place
    | (?<=://) (?P<user>[^:]*:) .*@
    | (?P<name>\b\w*(?:password|passwd|secret|token|key)\s*=\s*)    # in a query, or as libpq writes it
      (?:'(?:[^'\\]|\\.)*' | [^&\s]*)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def without_passwords(text: str) -> str:
    """Hides the passwords in an address, or in a text that holds one."""
    return PASSWORDS.sub(_hidden_password, text)


def _hidden_password(found: re.Match[str]) -> str:
    if found["name"]:
        return f"{found['name']}{HIDDEN}"
    return f"{found['user'] or ''}{HIDDEN}@"


_OF_KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"
"""The characters of which everything in PATTERNS consists, but a private key's block."""
_OPEN_BLOCK = re.compile(
    r"-----BEGIN\ (?:[A-Z ]*-*\Z | [A-Z ]*PRIVATE\ KEY-----(?!.*-----END\ [A-Z ]*PRIVATE\ KEY-----))",
    re.VERBOSE | re.DOTALL,
)


class Redactor:
    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return PATTERNS.sub(HIDDEN, text)

    def value(self, value: Any) -> Any:
        """The same shape, with every text in it redacted, keys of dicts included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.value(key): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case _:
                return value

    def settled(self, text: str) -> int:
        """Returns how many characters of a text that goes on can be redacted and shown: no secret reaches over them.

        Words that come in pieces are shown in pieces, and a secret in two halves looks like none.
        """
        end = len(text.rstrip(_OF_KEYS))
        if text.endswith("Bearer ", 0, end):
            end -= len("Bearer ")
        if block := _OPEN_BLOCK.search(text):
            end = min(end, block.start())
        cut = (found.start() for found in PATTERNS.finditer(text) if found.start() < end < found.end())
        end = min(cut, default=end)
        while overlap := max((_begun(secret, text, end) for secret in self._secrets), default=0):
            end -= overlap
        return end


def _begun(secret: str, text: str, end: int) -> int:
    """With how many of its first characters, but not with all, the secret stands at the end of `text[:end]`."""
    longest = min(len(secret) - 1, end)
    return next((length for length in range(longest, 0, -1) if text.startswith(secret[:length], end - length)), 0)
