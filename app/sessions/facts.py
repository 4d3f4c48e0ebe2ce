"""Every event of a session, built in one place: what workers, clients and the SQL functions record."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidEvent
from app.events.types import AgentEvent
from app.progress import Phase

_AGENT_EVENT = TypeAdapter(AgentEvent)


def agent_event(
    *,
    agent: str,
    phase: Phase,
    msg: str,
    progress: float,
    total: float | None,
    details: Mapping[str, Any],
    step: int,
    attempt: int,
) -> AgentEvent:
    """Raises InvalidEvent for what the published schema does not allow, and when `total` is not positive."""
    event: AgentEvent = {
        "t": "agent_event",
        "agent": agent,
        "phase": phase,
        "msg": msg,
        "progress": progress,
        "total": total,
        "pct": None,
        "details": dict(details),
        "step": step,
        "attempt": attempt,
    }
    try:
        _AGENT_EVENT.validate_python(event, strict=True)
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise InvalidEvent("; ".join(faults)) from None
    if total is not None:
        if not total > 0:
            raise InvalidEvent(f"total must be positive (or null when it is not known), not {total!r}")
        event["pct"] = progress / total
    return event
