"""The recorder of heads: each minute, what moved, on a stream of its own, so that a stream that is gone is missed."""

from dataclasses import dataclass
from datetime import timedelta

from app.events.proof.heads import record_heads
from app.principals.model import DEPLOYMENT
from app.unit_of_work import Backends
from workers.maintenance.maintainer import Duty

EVERY = timedelta(minutes=1)
EVENTS = 2_000_000
"""Of one round: more than a minute brings, and some seconds of Postgres where an old database has many more."""


@dataclass(frozen=True, slots=True)
class HeadsRecorder:
    backends: Backends

    @property
    def duty(self) -> Duty:
        return Duty("heads", every=EVERY, at_most=EVENTS, is_exclusive=True)

    async def round(self) -> None:
        await record_heads(
            self.backends.engine,
            DEPLOYMENT,
            max_bytes=self.backends.settings.max_event_bytes,
            at_most=self.duty.at_most,
            not_within=EVERY * 0.9,  # of several workers the first one in a minute does it
        )
