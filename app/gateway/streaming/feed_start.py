"""The start of a reader of the feed: what it asked for and may see, and the place where that is. Pure."""

from dataclasses import dataclass
from datetime import datetime

from app.errors import BadCursor, MissingScope
from app.events.cursors import FeedCursor, FeedPlace
from app.events.feed import ALL_STREAMS, FeedFilter, FeedHead
from app.events.follow.feed_follower import NEW_EPOCH
from app.events.follow.updates import FeedReset
from app.gateway.streaming.start import LATEST, count_of
from app.principals.model import OPERATORS, Principal, no_project


@dataclass(frozen=True, slots=True)
class FeedStart:
    """What the client asked for; with none of the first four, everything from the beginning on."""

    after: FeedCursor | None = None
    latest: bool = False
    tail: int | None = None
    since: datetime | None = None
    only: FeedFilter = ALL_STREAMS
    """As the client asked; `visible` makes of it what it may see."""


@dataclass(frozen=True, slots=True)
class FeedOpening:
    """The place where the client starts. With a `reset` streams may be shorter than the client saw them."""

    head: FeedHead
    after: FeedPlace
    reset: FeedReset | None = None

    @property
    def cursor(self) -> FeedCursor:
        return FeedCursor(self.head.epoch if self.after.epoch else 0, self.after)


def feed_start_of(
    *, after: str | None, tail: str | None, since: datetime | None, last_event_id: str | None, only: FeedFilter
) -> FeedStart:
    """Reads what a request says as text. `Last-Event-ID` beats every start parameter. Raises BadCursor."""
    cursor = None if after in {None, LATEST} else FeedCursor.parse(after or "", what="after")
    count = None if tail is None else count_of(tail)
    if last_event_id:
        return FeedStart(FeedCursor.parse(last_event_id, what="Last-Event-ID"), only=only)
    if sum(parameter is not None for parameter in (after, tail, since)) > 1:
        raise BadCursor("give one of after, tail and since")
    return FeedStart(cursor, after == LATEST, count, since, only)


def visible(principal: Principal, asked: FeedFilter) -> FeedFilter:
    """Narrows what was asked for to what the principal may see. Raises NotFound and MissingScope."""
    if principal.stream_id is not None:
        raise MissingScope("this ticket opens one stream, not the feed: name the stream as session_id")
    if hidden := [project for project in sorted(asked.projects) if not principal.sees(project)]:
        raise no_project(hidden[0])
    projects = asked.projects if principal.project is None else frozenset({principal.project})
    return asked._replace(projects=projects, has_operators=not principal.scopes.isdisjoint(OPERATORS))


def place(head: FeedHead, cursor: FeedCursor) -> FeedOpening:
    """Honours a cursor, also one of an earlier epoch: what survived kept its place, and the client is told.

    Where the database has not yet come to, or in an epoch that it never had, the cursor is of a life that was lost, or
    of another copy: then all of it comes again.
    """
    if reason := why_not(head, cursor):
        return FeedOpening(head, FeedPlace(), _reset(head, FeedPlace(), reason))
    if FeedPlace() < cursor.place and cursor.epoch < head.epoch:
        return FeedOpening(head, cursor.place, _reset(head, cursor.place, NEW_EPOCH))
    return FeedOpening(head, cursor.place)


def why_not(head: FeedHead, cursor: FeedCursor) -> str | None:
    """Says why the cursor cannot be served, if it cannot."""
    if cursor.place == FeedPlace():
        return None
    if unknown := {cursor.epoch, cursor.place.epoch} - head.epochs:
        return f"the cursor {cursor} is of the epoch {min(unknown)}, which this database never had"
    if cursor.place >= head.bound:
        return f"the cursor {cursor} is beyond {head.place}, the last event that there is"
    return None


def _reset(head: FeedHead, place: FeedPlace, reason: str) -> FeedReset:
    return FeedReset(reason, head.epoch, head.place, FeedCursor(head.epoch, place))
