"""Keys as text: made, recognised without a look into the database, and never kept. Pure."""

import hashlib
import secrets
import string
import zlib

PREFIX = "stw_"
"""By it, by the length and by the checksum, scanners for leaked secrets find a key, and find nothing else."""
PATTERN = r"\bstw_[0-9A-Za-z]{38}\b"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 32  # of 62 characters: 190 bits
_CHECKSUM = 6


def new_key() -> str:
    """`stw_`, 32 random characters, and the CRC-32 of these in six."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return f"{PREFIX}{drawn}{_checksum(drawn)}"


def is_key(text: str) -> bool:
    """Says whether it can be a key at all: a misspelt one is refused without a look for it."""
    drawn = text[len(PREFIX) : -_CHECKSUM]
    return text.startswith(PREFIX) and len(drawn) == _RANDOM and text.endswith(_checksum(drawn))


def digest_of(key: str) -> bytes:
    """What is kept of a key. It has 190 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(drawn: str) -> str:
    rest, found = zlib.crc32(drawn.encode(errors="replace")), ""
    for _ in range(_CHECKSUM):
        rest, digit = divmod(rest, len(_ALPHABET))
        found = _ALPHABET[digit] + found
    return found
