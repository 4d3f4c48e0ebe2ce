"""GET /metrics: what this process has counted, and what Postgres and Redis say of the whole deployment."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from fastapi import APIRouter, Request, Response
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.events.types import SessionStatus
from app.gateway.callers import ToScrape
from app.gateway.figures import Figures, Shared, Stored
from app.gateway.wiring import Gateway, Wired
from app.metrics import REGISTRY, encoder_for
from app.sessions.metrics_repository import StepCount

router = APIRouter(tags=["health"])

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Values of labels, and the number."""


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format, or OpenMetrics", "content": {"text/plain": {}}}},
)
async def metrics(request: Request, gateway: Wired, shared: Shared, principal: ToScrape) -> Response:
    """What Prometheus scrapes; a key that belongs to a project gets that project's figures alone."""
    figures = await shared.read()
    encode, media_type = encoder_for(request.headers.get("accept"))
    return Response(encode(_Scrape(gateway, figures, principal.project)), headers={"Content-Type": media_type})


@dataclass(frozen=True, slots=True)
class _Scrape:
    """What one scrape shows, as the library's encoders take it; a `project` of None stands for all of them."""

    gateway: Gateway
    figures: Figures
    project: str | None

    def collect(self) -> Iterator[Metric]:
        stored = self.figures.stored
        yield _one("stellwerk_database_up", "Whether Postgres answers", float(stored is not None))
        if self.project is None:
            yield from REGISTRY.collect()
            yield from self._of_the_deployment(stored)
        if stored is not None:
            yield from _of_projects(stored, self.project)

    def _of_the_deployment(self, stored: Stored | None) -> Iterator[Metric]:
        follower, figures = self.gateway.follower, self.figures
        yield _one("stellwerk_redis_up", "Whether Redis answers", float(figures.redis_answers))
        yield _one("stellwerk_readers", "Streams that this process holds open", follower.readers)
        if follower.push_round_trip is not None:
            meaning = "How long a message took from this process through Redis and back"
            yield _one("stellwerk_push_round_trip_seconds", meaning, follower.push_round_trip)
        lengths = (((queue,), length) for queue, length in figures.queues.items())
        yield from _gauge(
            "stellwerk_queue_messages", "Messages that wait in a queue of the broker", ("queue",), lengths
        )
        if stored is not None:
            yield _one("stellwerk_workers", "Worker processes that live", stored.workers)
            meaning = "How long the oldest event has waited for older transactions before the feed shows it"
            yield _one("stellwerk_feed_lag_seconds", meaning, stored.feed_lag)


def _of_projects(stored: Stored, project: str | None) -> Iterator[Metric]:
    if project is not None:
        stored = stored.of_project(project)
    projects = {row.project for row in stored.sessions} | ({project} if project else set())
    # A status without a session is 0, not nothing: graphs and alerts need the moment when it becomes so.
    sessions = {(name, status): 0 for name in sorted(projects) for status in get_args(SessionStatus)}
    sessions |= {(row.project, row.status): row.number for row in stored.sessions}
    yield from _gauge("stellwerk_sessions", "Sessions", ("project", "status"), sessions.items())
    yield from _gauge(
        "stellwerk_oldest_waiting_session_seconds",
        "How long the session has waited that has waited longest for its turn, or for an answer",
        ("project", "waits_for"),
        (((row.project, row.waits_for), row.seconds) for row in stored.oldest),
    )
    yield from _gauge(
        "stellwerk_steps",
        "Steps that have not ended",
        ("project", "status", "agent", "queue"),
        (((row.project, row.status, row.agent, row.queue), row.number) for row in stored.steps),
    )
    yield from _of_waiting_steps(stored.steps, projects)


def _of_waiting_steps(steps: Iterable[StepCount], projects: set[str]) -> Iterator[Metric]:
    unclaimed = defaultdict[tuple[str, ...], float](float)
    approvals = {(name,): 0 for name in sorted(projects)}
    asked = defaultdict[tuple[str, ...], float](float)
    for row in steps:
        if row.status == "waiting":
            approvals[row.project,] = approvals.get((row.project,), 0) + row.number
            asked[row.project,] = max(asked[row.project,], row.oldest or 0)
        elif row.status == "queued" and row.oldest is not None:
            unclaimed[row.project, row.queue] = max(unclaimed[row.project, row.queue], row.oldest)
    yield from _gauge(
        "stellwerk_oldest_queued_step_seconds",
        "How long the step has been available that has waited longest for a worker",
        ("project", "queue"),
        unclaimed.items(),
    )
    yield from _gauge("stellwerk_approvals_waiting", "Questions without an answer", ("project",), approvals.items())
    meaning = "How long the question has waited that has waited longest"
    yield from _gauge("stellwerk_oldest_approval_seconds", meaning, ("project",), asked.items())


def _one(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value)


def _gauge(name: str, meaning: str, labels: tuple[str, ...], rows: Rows) -> Iterator[Metric]:
    """Nothing where there are no rows."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    if family.samples:
        yield family
