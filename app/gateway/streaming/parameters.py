"""The parameters of a request that say where a reader starts, as FastAPI reads and documents them."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Query

from app.events import cursors
from app.gateway.inputs import Text, Timestamp
from app.gateway.streaming.start import LATEST, Start, start_of

# For the document only: what does not fit is answered with 400 and more than "does not match the pattern".
_CURSOR = {"pattern": cursors.PATTERN}
_AFTER = {"anyOf": [{"const": LATEST}, _CURSOR]}
_NUMBER = {"pattern": "^-?[0-9]{1,29}$"}

Names = Annotated[list[Text] | None, Query(description="Only these; repeated or separated by commas.", max_length=100)]


Limit = Annotated[int, Query(ge=1, le=1000, description="The most events of a page.")]


async def _start_of_reading(
    after: Annotated[
        str | None,
        Query(
            description="The id of the last event that you have, 0 for all, or `latest`.",
            max_length=50,
            json_schema_extra=_AFTER,
        ),
    ] = None,
    tail: Annotated[
        str | None,
        Query(description="Start this many events before the head.", max_length=30, json_schema_extra=_NUMBER),
    ] = None,
    since: Annotated[
        Timestamp | None,
        Query(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC), description="RFC 3339."),
    ] = None,
    t: Names = None,
    agent: Names = None,
    phase: Names = None,
    epoch: Annotated[
        int | None, Query(description="The epoch that a bare offset belongs to, from a `stream` frame; else the first.")
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            description="Beats every start parameter; EventSource sends it.",
            max_length=50,
            json_schema_extra=_CURSOR,
        ),
    ] = None,
) -> Start:
    """Raises BadCursor."""
    return start_of(
        after=after,
        tail=tail,
        since=since,
        t=t or (),
        agent=agent or (),
        phase=phase or (),
        epoch=epoch,
        last_event_id=last_event_id,
    )


StartOfReading = Annotated[Start, Depends(_start_of_reading)]
