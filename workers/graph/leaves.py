"""Single values that LangGraph's serializer keeps exactly, written as it writes them."""

import ipaddress
import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from app.errors import UnstorableValue
from workers.graph.bases import has_plain_zone

TYPES = frozenset(
    {
        date,
        datetime,
        time,
        timedelta,
        timezone,
        ZoneInfo,
        Decimal,
        UUID,
        type(Path()),
        re.Pattern,
        *(
            getattr(ipaddress, f"IPv{version}{kind}")
            for version in (4, 6)
            for kind in ("Address", "Interface", "Network")
        ),
    }
)

_langgraph = JsonPlusSerializer(allowed_msgpack_modules=None)


def is_leaf(value: Any) -> bool:
    """Says whether a value of TYPES is kept, a time of a zone with a name is not."""
    return type(value) not in (datetime, time) or has_plain_zone(value)


def dumps(value: Any) -> bytes:
    if type(value) is ZoneInfo and value.key is None:
        raise UnstorableValue("a ZoneInfo without a key cannot be stored; use ZoneInfo(key)")
    return _langgraph.dumps_typed(value)[1]


def loads(payload: bytes) -> Any:
    return _langgraph.loads_typed(("msgpack", payload))
