"""What may follow what: the transitions of a session and of a step, each with who makes it and what it records. Pure.

A session:

            ┌────────────── e ────────────┐
            │                             ▼
  a ▶ created ── b ──▶ running ── d, e ─▶ waiting ── b, c, f ─▶ running
         │                │                  │
         └────── g, h, i ─┴──── from each ───┘─▶ succeeded (g)   failed (h)   cancelled (i)
                                                                   │
                                       running ◀─────── j ─────────┘
  paused keeps its steps where they are: an answer is kept, what runs may end, and nothing but h and i leaves it.

  a  create   a client              session_event(created)
  b  fold     a worker, at a fold   session_event(running), unless it ran
  c  claim    a worker, at a claim  session_event(running), if it waited
  d  ask      a worker, when every open step waits for an answer         session_event(waiting)
  e  park     a worker or the gateway, when no worker serves the version session_event(waiting), unless it says so
  f  answer   a client              session_event(running), if it waited
  g  finish   a worker, at a fold   as b, then session_event(succeeded), the stream's last
  h  fail     a worker or rescuer   session_event(failed), the stream's last
  i  cancel   a client              session_event(cancelled), the stream's last, unless it is cancelled already
  j  retry    a client              session_event(running)

A step:

  k ▶ queued ── l ──▶ running ── m ─▶ succeeded
        ▲  ▲             │ ├──── n ─▶ waiting ── o ─▶ queued
        │  └───── p, q ──┘ └──── r ─▶ failed
        └──────── t ──── failed, cancelled ◀── s ── queued, running, waiting

  k  queue    a worker, at a fold   step_event(queued)
  l  claim    a worker              step_event(running)
  m  complete a worker              step_event(succeeded)
  n  ask      a worker              step_event(waiting), approval_event(requested)
  o  answer   a client              approval_event, step_event(queued)
  p  repeat   a worker, after a failed or postponed attempt  step_event(failed), step_event(queued)
  q  lose     a rescuer, a worker that ends, or the quarantine         step_event(lost), step_event(queued)
  r  fail     a worker, or who loses it too often            step_event(failed or lost); the session fails with it (h)
  s  cancel   whatever ends the session                      step_event(cancelled)
  t  retry    a client              step_event(queued)

The SQL functions of migrations/sql make b, c, d, k, l and m; a test runs every move in every status against this table.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from app.errors import Conflict
from app.events.types import TERMINAL, SessionStatus, StepStatus

SessionMove = Literal["fold", "claim", "ask", "park", "answer", "finish", "fail", "cancel", "retry"]
StepMove = Literal["claim", "complete", "ask", "answer", "repeat", "lose", "fail", "cancel", "retry"]

_ACTIVE: tuple[SessionStatus, ...] = ("created", "running", "waiting")
_OPEN: tuple[SessionStatus, ...] = (*_ACTIVE, "paused")

SESSION: Mapping[SessionMove, Mapping[SessionStatus, SessionStatus]] = MappingProxyType(
    {
        "fold": dict.fromkeys(_ACTIVE, "running"),
        "claim": {"created": "created", "running": "running", "waiting": "running"},
        "ask": {"running": "waiting"},
        "park": dict.fromkeys(_ACTIVE, "waiting"),
        "answer": {"running": "running", "waiting": "running", "paused": "paused"},
        "finish": dict.fromkeys(_ACTIVE, "succeeded"),
        "fail": dict.fromkeys(_OPEN, "failed"),
        "cancel": dict.fromkeys((*_OPEN, "cancelled"), "cancelled"),
        "retry": {"failed": "running"},
    }
)
"""For each move the statuses that it may be made in, and the one that follows; every other status refuses it."""

STEP: Mapping[StepMove, Mapping[StepStatus, StepStatus]] = MappingProxyType(
    {
        "claim": {"queued": "running"},
        "complete": {"running": "succeeded"},
        "ask": {"running": "waiting"},
        "answer": {"waiting": "queued"},
        "repeat": {"running": "queued"},
        "lose": {"running": "queued"},
        "fail": {"running": "failed"},
        "cancel": {"queued": "cancelled", "running": "cancelled", "waiting": "cancelled"},
        "retry": {"failed": "queued", "cancelled": "queued"},
    }
)

_CAN: Mapping[SessionMove, str] = MappingProxyType(
    {
        "fold": "be folded",
        "claim": "have its steps claimed",
        "ask": "begin to wait for an answer",
        "park": "begin to wait for a worker",
        "answer": "take an answer",
        "finish": "succeed",
        "fail": "fail",
        "cancel": "be cancelled",
        "retry": "be retried",
    }
)
_IS: Mapping[SessionStatus, str] = MappingProxyType(
    {
        "created": "has not begun",
        "running": "is running",
        "waiting": "is waiting",
        "paused": "is paused",
        "succeeded": "has succeeded",
        "failed": "has failed",
        "cancelled": "was cancelled",
    }
)

OPEN: frozenset[SessionStatus] = frozenset(_OPEN)
"""The statuses of a session that has not ended."""
OPEN_STEP: frozenset[StepStatus] = frozenset(STEP["cancel"])
"""The statuses of a step that has not ended."""


def may(move: SessionMove, status: SessionStatus) -> bool:
    """Says whether a session in this status may make the move."""
    return status in SESSION[move]


def may_step(move: StepMove, status: StepStatus) -> bool:
    """Says whether a step in this status may make the move."""
    return status in STEP[move]


def after(move: SessionMove, status: SessionStatus) -> SessionStatus:
    """The status after the move. Raises Conflict with what the session is and what would be needed."""
    if status in SESSION[move]:
        return SESSION[move][status]
    raise Conflict(f"the session {_IS[status]}; only one that {_needed(move)} can {_CAN[move]}")


def said_of(status: SessionStatus) -> str:
    """Such as "has failed", for what a session's status forbids."""
    return _IS[status]


def _needed(move: SessionMove) -> str:
    statuses = [status for status, then in SESSION[move].items() if status != then or status not in TERMINAL]
    if statuses == [*_OPEN]:
        return "has not ended"
    *others, last = (_IS[status] for status in statuses)
    return f"{', '.join(others)} or {last}" if others else last
