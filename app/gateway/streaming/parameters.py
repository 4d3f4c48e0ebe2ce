"""The parameters of a request that say where a reader starts, as FastAPI reads and documents them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Path, Query
from pydantic import Field

from app.errors import BadCursor
from app.events import cursors
from app.events.cursors import Cursor
from app.events.feed import FeedFilter
from app.gateway.inputs import Text, Timestamp
from app.gateway.streaming.feed_start import FeedStart, feed_start_of
from app.gateway.streaming.filters import (
    EVENT_STATUSES,
    KINDS_OF_EVENTS,
    PHASES,
    SESSION_STATUSES,
    event_statuses_of,
    names_of,
    only_of,
    pattern_of,
)
from app.gateway.streaming.manner import Manner, manner_of
from app.gateway.streaming.start import LATEST, Start, start_of

# For the document only: what does not fit is answered with 400 and more than "does not match the pattern".
_CURSOR = {"pattern": cursors.PATTERN}
_FEED_CURSOR = {"pattern": cursors.FEED_PATTERN}
_AFTER = {"anyOf": [{"const": LATEST}, _CURSOR, _FEED_CURSOR]}
_NUMBER = {"pattern": "^-?[0-9]{1,29}$"}

MAX_CURSOR = 60
Names = Annotated[
    list[Text] | None,
    Query(description="Only these; repeated or separated by commas (`\\,` is a comma in a name).", max_length=100),
]
_KNOWN = Query(description="Only these; repeated or separated by commas.", max_length=100)


def _one_of(pattern: str) -> Any:
    """For the document only, likewise."""
    return Field(json_schema_extra={"pattern": pattern})


Kinds = Annotated[list[Annotated[Text, _one_of(pattern_of(KINDS_OF_EVENTS, suffix="(_event)?"))]] | None, _KNOWN]
Phases = Annotated[list[Annotated[Text, _one_of(pattern_of(PHASES))]] | None, _KNOWN]
EventStatuses = Annotated[list[Annotated[Text, _one_of(pattern_of(EVENT_STATUSES))]] | None, _KNOWN]
SessionStatuses = Annotated[list[Annotated[Text, _one_of(pattern_of(SESSION_STATUSES))]] | None, _KNOWN]

Limit = Annotated[int, Query(ge=1, le=1000, description="The most events of a page.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters as text: what a cursor looks like depends on what is to be read."""

    after: str | None
    tail: str | None
    since: datetime | None
    t: list[str]
    agent: list[str]
    phase: list[str]
    epoch: int | None
    last_event_id: str | None

    def of_stream(self) -> Start:
        """Raises BadCursor."""
        return start_of(
            after=self.after,
            tail=self.tail,
            since=self.since,
            t=self.t,
            agent=self.agent,
            phase=self.phase,
            epoch=self.epoch,
            last_event_id=self.last_event_id,
        )


async def _asked(
    after: Annotated[
        str | None,
        Query(
            description="The id of the last event that you have, 0 for all, or `latest`.",
            max_length=MAX_CURSOR,
            json_schema_extra=_AFTER,
        ),
    ] = None,
    tail: Annotated[
        str | None,
        Query(description="Start so that this many events come which match.", max_length=30, json_schema_extra=_NUMBER),
    ] = None,
    since: Annotated[
        Timestamp | None,
        Query(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC), description="RFC 3339."),
    ] = None,
    t: Kinds = None,
    agent: Names = None,
    phase: Phases = None,
    epoch: Annotated[
        int | None,
        Query(ge=1, lt=10**18, description="The epoch that a bare offset belongs to, from a `stream` frame; else 1."),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(
            description="Beats every start parameter; EventSource sends it.",
            max_length=MAX_CURSOR,
            json_schema_extra={"anyOf": [_CURSOR, _FEED_CURSOR]},
        ),
    ] = None,
    last_event_id_in_address: Annotated[
        str | None,
        Query(
            alias="lastEventId",
            description="The same for clients that cannot send the header, which beats it.",
            max_length=MAX_CURSOR,
            json_schema_extra={"anyOf": [_CURSOR, _FEED_CURSOR]},
        ),
    ] = None,
) -> Asked:
    resumed = last_event_id or last_event_id_in_address
    return Asked(after, tail, since, t or [], agent or [], phase or [], epoch, resumed)


AskedStart = Annotated[Asked, Depends(_asked)]


@dataclass(frozen=True, slots=True)
class PageAsked:
    """A place in a stream, from which it is followed or a page is read: forward, or with `before` backward."""

    start: Start
    before: Cursor | None
    limit: int


async def _page_asked(
    asked: AskedStart,
    before: Annotated[
        str | None,
        Query(
            description="A page of the last events before this id.", max_length=MAX_CURSOR, json_schema_extra=_CURSOR
        ),
    ] = None,
    limit: Limit = 100,
) -> PageAsked:
    """Raises BadCursor and BadQuery."""
    start = asked.of_stream()
    if before is None:
        return PageAsked(start, None, limit)
    cursor = Cursor.parse(before, epoch=asked.epoch, what="before")
    if asked.last_event_id:
        return PageAsked(start, None, limit)
    if any(parameter is not None for parameter in (asked.after, asked.tail, asked.since)):
        raise BadCursor("give one of after, before, tail and since")
    return PageAsked(start, cursor, limit)


async def _manner(
    on_end: Annotated[
        Literal["200", "204"],
        Query(description="`200`: what is over is told by `stream` and `end`."),
    ] = "204",
    follow: Annotated[
        Literal["reopened"] | None,
        Query(description="The stream stays open after `end`, and goes on when a retry reopens it."),
    ] = None,
    heartbeat: Annotated[
        Literal["comment", "event"], Query(description="`event`: a heartbeat is a frame with the `head`.")
    ] = "comment",
) -> Manner:
    return manner_of(on_end=on_end, follow=follow, heartbeat=heartbeat)


AskedManner = Annotated[Manner, Depends(_manner)]


async def _start_of_feed(
    asked: AskedStart,
    project: Names = None,
    workflow: Names = None,
    status: EventStatuses = None,
) -> Callable[[], FeedStart]:
    """Raises BadCursor when it is called: a request for a stream has other cursors."""
    only = FeedFilter(
        only_of(t=asked.t, agent=asked.agent, phase=asked.phase),
        projects=names_of(project or ()),
        workflow=names_of(workflow or ()),
        status=event_statuses_of(status or ()),
    )
    return partial(
        feed_start_of,
        after=asked.after,
        tail=asked.tail,
        since=asked.since,
        last_event_id=asked.last_event_id,
        only=only,
    )


AskedPage = Annotated[PageAsked, Depends(_page_asked)]
IdInPath = Annotated[
    str,
    Path(description="Its offset, or the id that streams give it.", max_length=MAX_CURSOR, json_schema_extra=_CURSOR),
]
StartOfFeed = Annotated[Callable[[], FeedStart], Depends(_start_of_feed)]
