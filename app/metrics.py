"""What a process counts of itself, as Prometheus reads it; app/gateway/README.md has the table of all metrics.

An observation takes about a microsecond, so there is one for a call of append_events, for a bundle of publishes, for a
claim, and none for an event or a frame. A label has few values: names of agents, queues, models, never ids.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from pydantic import SecretStr


class Registry(CollectorRegistry):
    """Leaves out what this process has never counted, and when counters began, which Prometheus does not need."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            if metric.samples:
                yield metric


REGISTRY = Registry()

append_seconds = Histogram(
    "stellwerk_append_seconds",
    "How long events took to become durable: a call of group commit, or a transaction with the wait for its locks",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
push_lag_seconds = Histogram(
    "stellwerk_push_lag_seconds",
    "How long after a commit Redis had taken the message to readers, of the oldest message of each bundle",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=REGISTRY,
)
push_lost = Counter(
    "stellwerk_push_lost_total",
    "Messages to readers that Redis did not take; readers get those events at the next look into Postgres",
    registry=REGISTRY,
)
unbelieved = Counter(
    "stellwerk_push_unbelieved_total",
    "Messages without a right seal, which Redis passed on and which no process of the deployment published",
    registry=REGISTRY,
)
resets = Counter(
    "stellwerk_resets_total",
    "Streams that began anew for a reader: its cursor could not be served, the epoch rose, or events have expired",
    ("reason",),
    registry=REGISTRY,
)
cut_readers = Counter(
    "stellwerk_cut_readers_total",
    "Readers that were cut off: they took nothing for too long, or may not read any more",
    ("reason",),
    registry=REGISTRY,
)
refused = Counter(
    "stellwerk_refused_total",
    "Connections and requests that the gateway's door refused, or gave up waiting for",
    ("reason",),
    registry=REGISTRY,
)
step_wait_seconds = Histogram(
    "stellwerk_step_wait_seconds",
    "How long a step had been available when a worker claimed it",
    ("agent", "queue"),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200),
    registry=REGISTRY,
)
leases_lost = Counter(
    "stellwerk_leases_lost_total",
    "Attempts that were taken from their workers, which had died, lost their connection or stood still",
    ("agent",),
    registry=REGISTRY,
)
rescues = Counter(
    "stellwerk_rescues_total",
    "What the rescuer found and set going again: lost attempts, steps and sessions whose message did not arrive",
    ("kind",),
    registry=REGISTRY,
)

_CALLER = ("provider", "model", "agent")
model_calls = Counter(
    "stellwerk_model_calls_total",
    "Calls of models that are in the log",
    (*_CALLER, "outcome"),
    registry=REGISTRY,
)
model_tokens = Counter(
    "stellwerk_model_tokens_total",
    "Tokens that these calls took",
    (*_CALLER, "direction"),
    registry=REGISTRY,
)
model_cost_dollars = Counter(
    "stellwerk_model_cost_dollars_total",
    "What these calls cost, in US dollars, where it is known",
    _CALLER,
    registry=REGISTRY,
)
model_calls_of_unknown_cost = Counter(
    "stellwerk_model_calls_of_unknown_cost_total",
    "Calls that took tokens or were answered, and of which no price is known",
    _CALLER,
    registry=REGISTRY,
)
tool_calls = Counter(
    "stellwerk_tool_calls_total",
    "Calls of tools that are in the log",
    ("tool", "agent", "outcome"),
    registry=REGISTRY,
)


def encoder_for(accept: str | None) -> tuple[Callable[[Any], bytes], str]:
    """The library's encoder for what a client accepts, and its media type; of a nonsensical version, the plain text."""
    try:
        return choose_encoder(accept or "")
    except TypeError:  # it compares the version with numbers
        return choose_encoder("")


def is_token(given: str, token: SecretStr | None) -> bool:
    """Says whether it is the token that opens metrics; where there is none, nothing is."""
    return token is not None and hmac.compare_digest(given.encode(errors="replace"), token.get_secret_value().encode())


def expect_steps(agent: str, queue: str) -> None:
    """Begins at 0 what is counted of an agent's steps: an increase from nothing to 1 Prometheus does not see."""
    leases_lost.labels(agent)
    step_wait_seconds.labels(agent, queue)


def model_called(
    provider: str, model: str, agent: str, *, usage: Mapping[str, object], cost: float | None, failed: bool
) -> None:
    """Counts a call that is in the log; what a server gives as a number of tokens and is none does not count."""
    caller = (provider, model, agent)
    model_calls.labels(*caller, "failed" if failed else "answered").inc()
    for direction in ("input", "output"):
        tokens = usage.get(f"{direction}_tokens")
        model_tokens.labels(*caller, direction).inc(max(0, tokens) if isinstance(tokens, int) else 0)
    if cost is not None:
        model_cost_dollars.labels(*caller).inc(max(0.0, cost))
    elif usage or not failed:
        model_calls_of_unknown_cost.labels(*caller).inc()


def tool_called(tool: str, agent: str, *, failed: bool) -> None:
    """Counts a call that is in the log."""
    tool_calls.labels(tool, agent, "failed" if failed else "answered").inc()
