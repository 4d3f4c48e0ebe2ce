"""Every event of an operators' stream, built in one place. Pure."""

from app.events.encoding import printable
from app.events.types import ControlEvent
from app.principals.model import Control, Denied

MAX_CHARACTERS = 4000


def controlled(control: Control, *, error: str | None = None) -> ControlEvent:
    """What was asked for and what came of it; with an `error` it was refused."""
    event: ControlEvent = {
        "t": "control_event",
        "action": control.action,
        "outcome": control.outcome if error is None else "refused",
        "principal": control.principal.name,
        "key_id": control.principal.key_id,
        "target": control.target,
        "reason": _text(control.reason),
        "request_id": control.request_id,
    }
    if control.once is not None:
        event["request_digest"] = control.once.digest
    if error is not None:
        event["error"] = printable(error)[:MAX_CHARACTERS]
    if control.details:
        event["details"] = control.details
    return event


def denied(what: Denied, *, count: int, since: str) -> ControlEvent:
    """`count` of them in the minute that began at `since`."""
    event: ControlEvent = {
        "t": "control_event",
        "action": what.action,
        "outcome": "denied",
        "principal": what.principal,
        "key_id": what.key_id,
        "target": None,
        "reason": None,
        "request_id": None,
        "status": what.status,
        "count": count,
        "since": since,
    }
    if what.address is not None:
        event["address"] = what.address
    return event


def _text(text: str | None) -> str | None:
    return None if text is None else printable(text)[:MAX_CHARACTERS]
