"""Durations as people write them."""

import re
from datetime import timedelta

from app.errors import BadInput

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """A number and its unit. Raises BadInput."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if not found:
        raise BadInput(f"{text!r} is no duration; it looks like 30d, 12h or 2w")
    return timedelta(**{UNITS[found[2]]: int(found[1])})
