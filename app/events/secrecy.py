"""The door between what was said and what is recorded: no known secret passes it, in an event or in an artifact.

What people read is redacted: known secrets, and what only looks like a key. What a fold reads must stay exact: in it,
known secrets stand by their names (`references.py`), and workers read them with `Secrecy.resolved`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import orjson

from app.config import Settings
from app.events import references
from app.events.types import StoredEvent
from app.known_secrets import NO_SECRETS, Fingerprint, Secrets
from app.redaction import Redactor, each_text

How = Literal["exact", "result", "shown"]
"""`exact` is for folds. `shown` is for people. A `result` is for programs, too: what only looks like a key stays."""

EXACT: Mapping[str, frozenset[str]] = {
    "session_event": frozenset({"input", "context", "config", "state"}),
    "step_event": frozenset({"update"}),
    "workflow_event": frozenset({"delta"}),
    "approval_event": frozenset({"answer", "answer_schema"}),
}
RESULTS = frozenset({"result", "path", "worker"})
"""The two latter are made of names that people chose, and sk-learn-experiments-2024 is no key."""
NAMES = frozenset(
    {"t", "node", "phase", "status", "queue", "task_path", "commit", "workflow", "version", "langgraph", "project"}
    | {"principal", "key_id", "target", "action", "outcome", "continues", "usage"}
)
"""What events are found and compared by; of these, none holds what an agent, a model or a client says."""
LARGE_BYTES = 64 * 1024
"""More is looked through beside the event loop: 5 MB take a tenth of a second."""


class Secrecy:
    """One for each process, made of its settings."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self.redactor = Redactor(secrets)
        self.learned_at = float("-inf")

    @classmethod
    def of(cls, settings: Settings) -> "Secrecy":
        return cls(Secrets.of(settings))

    def learn(self, fingerprints: Iterable[Fingerprint], now: float) -> None:
        """From now on these secrets, which other processes have, are found, too."""
        self.secrets.learn(fingerprints)
        self.learned_at = now

    def may_change(self, data: bytes) -> bool:
        """The quick look, at an event's JSON; nearly always it is all that there is to do."""
        return self.redactor.may_change(data)

    def veiled(self, event: StoredEvent) -> StoredEvent:
        """The event as it may be recorded."""
        exact = EXACT.get(event["t"], frozenset())
        kept: dict[str, Any] = {}
        for name, value in event.items():
            if name in NAMES or (name == "agent" and event["t"] != "agent_event"):
                kept[name] = value
            else:
                how: How = "exact" if name in exact else "result" if name in RESULTS else "shown"
                kept[name] = self._kept(value, how)
        if event["t"] == "control_event" and "name" in (details := event.get("details") or {}):
            kept["details"]["name"] = self._kept(details["name"], "result")
        return cast("StoredEvent", kept)

    async def kept(self, value: Any, how: How) -> Any:
        """A value as it may be recorded, in an event, an artifact or a column. Doing it twice changes nothing.

        `value` is JSON.
        """
        try:
            data = orjson.dumps(value)
        except (TypeError, ValueError):  # the encoder refuses it, and says why
            return self._kept(value, how)
        if len(data) > LARGE_BYTES:
            return await asyncio.to_thread(self._kept_if_need_be, data, value, how)
        return self._kept_if_need_be(data, value, how)

    def _kept_if_need_be(self, data: bytes, value: Any, how: How) -> Any:
        return self._kept(value, how) if self.may_change(data) else value

    def _kept(self, value: Any, how: How) -> Any:
        match how:
            case "exact":
                return references.with_names(value, self.secrets)
            case "result":
                return each_text(value, self.redactor.known)
            case "shown":
                return self.redactor.value(value)

    async def kept_bytes(self, content: bytes) -> bytes:
        """A text of which only known secrets are hidden, in whatever encoding it is."""
        if not self.secrets.may_be_in(content):
            return content
        text = content.decode(errors="surrogateescape")
        return (await asyncio.to_thread(self.redactor.known, text)).encode(errors="surrogateescape")

    def text(self, text: str) -> str:
        """For people."""
        return self.redactor.text(text)

    def resolved(self, value: Any) -> Any:
        """What `kept` made of an exact value, with the secrets as they are now. Raises UnknownSecret."""
        return references.resolved(value, self.secrets)


NOTHING_KNOWN = Secrecy(NO_SECRETS)
