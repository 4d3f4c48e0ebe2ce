"""Types of what clients send, checked before anything else sees it; and the answer that several endpoints give."""

import re
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.errors import InvalidEvent
from app.events.encoding import MAX_DEPTH, check_json
from app.gateway.responses import REQUEST_ID
from app.progress import SessionId


def _clean_text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must not hold a lone surrogate") from error
    return value


def _clean_json(value: Any) -> Any:
    try:
        if not _is_plain(value):
            check_json(value, where="value")
        orjson.dumps(value)  # lone surrogates, integers beyond 64 bits
    except (InvalidEvent, TypeError) as error:
        raise ValueError(str(error)) from error
    return value


def _is_plain(value: object, depth: int = 0) -> bool:
    """Says whether check_json would surely find nothing; that tells where a fault is, and takes five times as long."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        if any("\x00" in key for key in value):
            return False
        value = value.values()
    elif not isinstance(value, list):
        return type(value) in _PLAIN or (isinstance(value, str) and "\x00" not in value)
    return all(type(item) in _PLAIN or _is_plain(item, depth + 1) for item in value)


_WITH_SPACE = re.compile(r"(.+\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:\d\d)", re.ASCII)
"""A time whose `+` was not escaped in an address, where it stands for a space."""


def _time(value: Any) -> Any:
    """Pydantic would take a number for seconds since 1970, or for milliseconds if it is large."""
    if not isinstance(value, str):
        return value
    if "-" not in value[1:]:
        raise ValueError("must be a time of RFC 3339, such as 2026-11-03T12:30:01Z")
    return f"{found[1]}+{found[2]}" if (found := _WITH_SPACE.fullmatch(value)) else value


def _whole(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError("must not be an integer beyond 2^53, which no double holds exactly; send it as text")
    return value


_PLAIN = frozenset({int, bool, type(None)})
MAX_FIELDS = 100
"""No body has so many; of each that is unknown there would be an error."""

Number = Annotated[float, BeforeValidator(_whole)]
Text = Annotated[str, AfterValidator(_clean_text)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_time)]
Json = Annotated[Any, AfterValidator(_clean_json)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_clean_json)]
ProjectInQuery = Annotated[
    Text | None, Query(max_length=63, description="Whose; a key has one project, which is understood.")
]
SessionIdInPath = Annotated[SessionId, Path(description="The session's UUID.")]
StepInPath = Annotated[int, Path(ge=1, le=2**31 - 1)]
IdempotencyKey = Annotated[
    Text | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key and body again give the first answer.",
    ),
]


async def _request_id(request: Request) -> str:
    found: str = request.scope.get(REQUEST_ID, "")
    return found


RequestId = Annotated[str, Depends(_request_id)]
"""What the middleware gave it, or the client."""
Reason = Annotated[Text, Field(max_length=10_000, description="Why; it is recorded.")] | None


class Body(BaseModel):
    """Unknown fields are refused: a misspelt option must not be ignored in silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"has {len(value)} fields; there are {', '.join(cls.model_fields)}")
        return value


class Appended(BaseModel):
    """Where the event stands that a request made."""

    offset: int
