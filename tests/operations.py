"""A request for every operation of the OpenAPI document, made of what one project holds.

What is new in the document and not said here is a failure of test_access_matrix.py: say what it is asked with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from tests.places import Place


@dataclass(frozen=True, slots=True)
class Asked:
    """What is put into an operation's address, query, headers and body."""

    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    header: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None

    def having(self, where: str, name: str, value: Any) -> Self:
        """The same with another value in one place: `path`, `query`, `header` or `body`."""
        return replace(self, **{where: (getattr(self, where) or {}) | {name: value}})


def _session(session_id: str, **more: Any) -> Asked:
    return Asked(path={"session_id": session_id}, **more)


OPERATIONS: Mapping[str, Callable[[Place], Asked]] = MappingProxyType(
    {
        "GET /approvals": lambda place: Asked(),
        "GET /events": lambda place: Asked(),
        "GET /keys": lambda place: Asked(),
        "POST /keys": lambda place: Asked(body={"name": f"{place.word}-new", "scopes": ["read"], "expires_in": 3600}),
        "POST /keys/{key_id}/revoke": lambda place: Asked(path={"key_id": place.key_id}, body={}),
        "POST /keys/{key_id}/rotate": lambda place: Asked(path={"key_id": place.rotated_key_id}, body={}),
        "POST /logins/revoke": lambda place: Asked(body={}),
        "GET /metrics": lambda place: Asked(),
        "GET /operators/events": lambda place: Asked(),
        "GET /operators/export": lambda place: Asked(),
        "GET /sessions": lambda place: Asked(),
        "POST /sessions": lambda place: Asked(body={"task": "look"}),
        "GET /sessions/{session_id}": lambda place: _session(place.running),
        "POST /sessions/{session_id}/approvals/{step}": lambda place: Asked(
            path={"session_id": place.waiting, "step": "1"}, body={"verdict": "approved", "question": place.question}
        ),
        "GET /sessions/{session_id}/artifacts/{digest}": lambda place: Asked(
            path={"session_id": place.succeeded, "digest": place.digest}
        ),
        "POST /sessions/{session_id}/cancel": lambda place: _session(place.created, body={}),
        "GET /sessions/{session_id}/events": lambda place: _session(place.succeeded),
        "GET /sessions/{session_id}/events/{offset}": lambda place: Asked(
            path={"session_id": place.succeeded, "offset": "1"}
        ),
        "GET /sessions/{session_id}/export": lambda place: _session(place.succeeded),
        "GET /sessions/{session_id}/patch": lambda place: _session(place.succeeded),
        "POST /sessions/{session_id}/retry": lambda place: _session(place.failed, body={}),
        "POST /sessions/{session_id}/tickets": lambda place: _session(place.waiting, body={}),
    }
)

BY_STEP: Mapping[str, Callable[[Place], Asked]] = MappingProxyType(
    {
        "POST /sessions/{session_id}/events": lambda place: _session(
            place.running, body={"progress": 0.5, "message": "half way"}
        )
    }
)
"""A step's token opens these, and no key does."""

OPEN = frozenset({"GET /healthz", "GET /readyz"})
"""They tell everyone the same."""

UNDOCUMENTED = frozenset(
    {"GET /", "POST /login", "POST /logout", "GET /dashboard/{name}", "GET /openapi.json"}
    | {"GET /dashboard/login.js", "GET /dashboard/style.css"}
    | {f"HEAD {path}" for path in ("/events", "/sessions/{session_id}/events", "/operators/events")}
)
"""The page and the document itself, and what is as its GET."""


def _any_id(place: Place) -> list[Any]:
    return [place.running, place.succeeded, place.operators]


VALUES: Mapping[str, Callable[[Place], list[Any]]] = MappingProxyType(
    {
        "session_id": _any_id,
        "continues": _any_id,
        "before": _any_id,
        "key_id": lambda place: [place.key_id, place.rotated_key_id],
        "digest": lambda place: [place.digest],
        "step": lambda place: ["1", "2"],
        "project": lambda place: [place.project],
        "workflow": lambda place: [f"{place.word}-flow"],
        "agent": lambda place: [f"{place.word}-agent"],
        "name": lambda place: [f"{place.word}-key"],
        "Idempotency-Key": lambda place: [f"{place.word}-once"],
        "status": lambda place: ["waiting", "failed"],
        "limit": lambda place: ["1", "1000"],
        "ticket": lambda place: [f"{place.word}-ticket"],
        "after": lambda place: ["0", "2", "latest", "99", "1.2", "2.1"],
        "offset": lambda place: ["1", "2"],
        "question": lambda place: [place.question, "1"],
        "last-event-id": lambda place: ["0", "2", "99"],
        "lastEventId": lambda place: ["0", "2", "99"],
        "on_end": lambda place: ["200", "204"],
        "follow": lambda place: ["reopened"],
        "heartbeat": lambda place: ["comment", "event"],
        "tail": lambda place: ["1", "1000"],
        "epoch": lambda place: ["1", "2"],
        "since": lambda place: ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"],
        "t": lambda place: ["session", "control_event", f"{place.word}_event"],
        "phase": lambda place: ["progress", "result"],
    }
)
"""What a request can say in a parameter, or in a field of its body, that names something."""

FREE = frozenset(
    {"task", "input", "context", "config", "path", "repo", "priority", "options", "reason", "comment", "verdict"}
    | {"answer", "scopes", "expires_in", "valid_for"}
)
"""Fields that name nothing that there is."""

SHARED = frozenset({"workflow"})
"""Fields that name what the deployment has for all projects."""
