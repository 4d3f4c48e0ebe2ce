"""Comparing what a column holds with what an event says, of which a part may have been hidden when it was recorded."""

from typing import Any

from app.key_shapes import HIDDEN
from app.known_secrets import SHORTEST


def is_as_told(stands: Any, told: Any) -> bool:
    """Says whether the column may be what the event told: where the event hides a part, the column may hold it.

    In one pass, whatever the event holds: each part where it comes first.
    """
    if stands == told:
        return True
    if not isinstance(stands, str) or not isinstance(told, str) or HIDDEN not in told:
        return False
    first, *between, last = told.split(HIDDEN)
    at = len(first)
    for part in between:
        found = stands.find(part, at + _least_before(part))
        if found < 0:
            return False
        at = found + len(part)
    return stands.startswith(first) and stands.endswith(last) and len(stands) - len(last) >= at + _least_before(last)


def _least_before(part: str) -> int:
    """How many characters were hidden at least: neither a known secret nor what looks like a key is shorter.

    What an address hides before its host may have any length.
    """
    return 1 if part.startswith("@") else SHORTEST
