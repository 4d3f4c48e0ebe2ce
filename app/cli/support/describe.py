"""Events in a line for people."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text

from app.terminal import clean

AGENT_WIDTH = 10
PHASE_STYLES = {"decision": "bold magenta", "result": "green", "think": "dim"}
STATUS_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "lost": "yellow",
    "cancelled": "yellow",
    "waiting": "yellow",
    "requested": "yellow",
}
QUIET_STEPS = frozenset({"queued", "running", "succeeded"})


def describe(event: Mapping[str, Any], event_id: str) -> Text:
    """Time, who, what; an event of a kind that is not known yet as it is."""
    who, what, style = _who_what_style(event, event_id)
    moment = datetime.fromisoformat(event["ts"]).astimezone()
    line = Text(f"{moment:%H:%M:%S} ", style="dim")
    line.append(f"{clean(who):<{AGENT_WIDTH}} ", style="cyan")
    line.append(clean(what), style=style)
    return line


def is_news(event: Mapping[str, Any]) -> bool:
    """What a person wants to read as it happens: not the machinery, as long as that works."""
    match event["t"]:
        case "workflow_event":
            return False
        case "step_event":
            return event["status"] not in QUIET_STEPS
        case "session_event":
            return bool(event["status"] != "running")
        case _:
            return True


def _who_what_style(event: Mapping[str, Any], event_id: str) -> tuple[str, str, str]:
    match event["t"]:
        case "agent_event":
            return event["agent"], _report(event), PHASE_STYLES.get(event["phase"], "")
        case "step_event":
            return event["agent"], _step(event), STATUS_STYLES.get(event["status"], "dim")
        case "session_event":
            detail = event.get("reason") or event.get("task")
            return "session", _joined(event["status"], detail), STATUS_STYLES.get(event["status"], "bold")
        case "workflow_event":
            delta = event["delta"]
            return event["node"], f"updated {', '.join(delta) if isinstance(delta, dict) else 'the state'}", "dim"
        case "approval_event":
            return f"step {event['step']}", _approval(event, event_id), STATUS_STYLES.get(event["status"], "bold")
        case "model_event":
            took = f"{event['duration_ms'] / 1000:.1f} s"
            return event["agent"], _joined(f"{event['provider']} {event['model']} {took}", event["error"]), "dim"
        case "tool_event":
            took = f"{event['duration_ms'] / 1000:.1f} s"
            return event["agent"], _joined(f"{event['name']} {took}", event["error"]), "dim"
        case "control_event":
            who = event["principal"] or event.get("address") or "nobody"
            what = f"{event['action']} {event['target'] or ''}".strip()
            return who, _joined(f"{what} {event['outcome']}", event.get("error") or event["reason"]), "bold"
        case kind:
            rest = {name: value for name, value in event.items() if name not in {"offset", "session_id", "ts", "t"}}
            return kind.removesuffix("_event"), _short(rest), "dim"


def _report(event: Mapping[str, Any]) -> str:
    details = event["details"]
    if event["phase"] == "decision":
        confidence = details.get("confidence")
        sure = f" ({confidence:.0%} sure)" if isinstance(confidence, int | float) else ""
        return _joined(event["msg"], details.get("reasoning")) + sure
    share = "" if event["pct"] is None or event["phase"] != "progress" else f"{event['pct']:.0%} "
    return f"{share}{event['msg']}"


def _step(event: Mapping[str, Any]) -> str:
    attempt = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
    return _joined(f"step {event['step']}{attempt} {event['status']}", event.get("error"))


def _approval(event: Mapping[str, Any], event_id: str) -> str:
    if event["status"] == "requested":
        place = f"{event['session_id']} {event['step']} --question {event_id}"
        command = f"stellwerk answer {place} --verdict approved"
        return f"asks {_short(event.get('question'))}; answer with `{command}`"
    return _joined(f"{event['status']} by {event.get('principal', 'nobody')}", event.get("comment"))


def _joined(what: str, detail: object) -> str:
    return f"{what}: {detail}" if detail else what


def _short(value: Any, limit: int = 200) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= limit else f"{text[:limit]}…"
