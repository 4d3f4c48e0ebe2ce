"""Comparing what a column holds with what an event says, of which a part may have been hidden when it was recorded."""

import re
from typing import Any

from app.key_shapes import HIDDEN
from app.known_secrets import SHORTEST

_HIDDEN_SOMETHING = f".{{{SHORTEST},}}"
"""Neither a known secret nor what looks like a key is shorter."""
_BEFORE_A_HOST = ".+"
"""What an address hides may have any length."""


def is_as_told(stands: Any, told: Any) -> bool:
    """Says whether the column may be what the event told: where the event hides a part, the column may hold it."""
    if stands == told:
        return True
    if not isinstance(stands, str) or not isinstance(told, str) or HIDDEN not in told:
        return False
    first, *others = told.split(HIDDEN)
    pattern = [re.escape(first)]
    for part in others:
        pattern += [_BEFORE_A_HOST if part.startswith("@") else _HIDDEN_SOMETHING, re.escape(part)]
    return re.fullmatch("".join(pattern), stands, re.DOTALL) is not None
