"""Filters as a request gives them: names that are repeated or separated by commas. Pure."""

import re
from collections.abc import Iterable
from typing import get_args

from app.errors import BadQuery
from app.events.read import EVERYTHING, Filter
from app.events.types import KINDS, ApprovalStatus, SessionStatus, StepStatus
from app.progress import Phase

_NAME = re.compile(r"(?:[^,\\]|\\.)*+", re.DOTALL)  # possessive: never tried twice
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
KINDS_OF_EVENTS = frozenset(kind.removesuffix("_event") for kind in KINDS)
PHASES = frozenset(get_args(Phase))
SESSION_STATUSES: frozenset[str] = frozenset(get_args(SessionStatus))
EVENT_STATUSES = SESSION_STATUSES | frozenset(get_args(StepStatus)) | frozenset(get_args(ApprovalStatus))


def pattern_of(known: Iterable[str], *, suffix: str = "") -> str:
    """What a list of these names looks like, for schemas."""
    name = f"({'|'.join(sorted(known))}){suffix}"
    return f"^{name}(,{name})*$"


def names_of(names: Iterable[str]) -> frozenset[str]:
    """Names as a parameter gives them: repeated or separated by commas. `\\,` is a comma in a name. Raises BadQuery."""
    return frozenset(part for text in names for part in _split(text) if part)


def only_of(*, t: Iterable[str], agent: Iterable[str], phase: Iterable[str]) -> Filter:
    """The filter that a request asks for. Raises BadQuery."""
    kinds = _check(frozenset(map(_short, names_of(t))), KINDS_OF_EVENTS, what="kind of event (t)")
    phases = _check(names_of(phase), PHASES, what="phase")
    return Filter(frozenset(f"{kind}_event" for kind in kinds), names_of(agent), phases) or EVERYTHING


def session_statuses_of(status: Iterable[str]) -> frozenset[str]:
    """Raises BadQuery."""
    return _check(names_of(status), SESSION_STATUSES, what="status of a session")


def event_statuses_of(status: Iterable[str]) -> frozenset[str]:
    """What events can say as their `status`. Raises BadQuery."""
    return _check(names_of(status), EVENT_STATUSES, what="status")


def _split(text: str) -> Iterable[str]:
    at = 0
    while at <= len(text):
        found = _NAME.match(text, at)
        assert found is not None  # it fits nothing, too
        if found.end() < len(text) and text[found.end()] != ",":
            raise BadQuery(f"{text[:60]!r} ends with a backslash; in a name write \\\\ for it, and \\, for a comma")
        yield _ESCAPED.sub(r"\1", found[0].strip())
        at = found.end() + 1


def _check(given: frozenset[str], known: frozenset[str], *, what: str) -> frozenset[str]:
    if unknown := sorted(given - known):
        there = ", ".join(sorted(known))
        raise BadQuery(f"there is no {what} {unknown[0][:60]!r}; there is {there}", allowed=known)
    return given


def _short(kind: str) -> str:
    """`agent` and `agent_event` are the same to a filter."""
    return kind.removesuffix("_event")
