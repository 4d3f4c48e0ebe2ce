"""How a client wants to be told what is no event: the end, what comes after it, and that the line lives. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from app.events.follow.updates import Update
from app.gateway.streaming.frames import frames_of, frames_with_beats


@dataclass(frozen=True, slots=True)
class Manner:
    """EventSource stops at 204; other clients take that for an error, and get `stream` and `end` instead."""

    says_204: bool = True
    stays: bool = False
    """After `end` it waits for the stream to be reopened."""
    beats_are_events: bool = False

    @property
    def encode(self) -> Callable[[Update], bytes]:
        return frames_with_beats if self.beats_are_events else frames_of


def manner_of(*, on_end: str | None = None, follow: str | None = None, heartbeat: str | None = None) -> Manner:
    """Reads what a request says as text, which must be one of the values that parameters.py allows."""
    stays = follow == "reopened"
    return Manner(says_204=on_end != "200" and not stays, stays=stays, beats_are_events=heartbeat == "event")
