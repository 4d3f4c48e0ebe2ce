"""Runs in eventsourcing's environment: events a second into its Postgres recorder, or out of it.

`append` from 16 threads, each with an aggregate of its own; `fill` makes a long aggregate, `select` reads it whole.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

THREADS = 16
SECONDS = 3.0
EVENTS = 100_000
IN_A_CALL = 100
STATE = json.dumps({"t": "agent_event", "agent": "codesmith", "phase": "progress", "msg": "x" * 230}).encode()

what, url, *names = sys.argv[1:]
address = urlsplit(url)
factory = InfrastructureFactory.construct(
    Environment(
        "bench",
        {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": address.path.lstrip("/"),
            "POSTGRES_HOST": address.hostname,
            "POSTGRES_PORT": str(address.port),
            "POSTGRES_USER": address.username,
            "POSTGRES_PASSWORD": address.password,
            "POSTGRES_POOL_SIZE": str(THREADS),
        },
    )
)
recorder = factory.application_recorder()


def events(aggregate: UUID, version: int, count: int) -> list[StoredEvent]:
    return [StoredEvent(aggregate, version + number, "bench:AgentEvent", STATE) for number in range(count)]


def produce(in_a_call: int, until: float) -> int:
    """One aggregate's events, a call after the other."""
    aggregate, version = uuid4(), 1
    while time.monotonic() < until:
        recorder.insert_events(events(aggregate, version, in_a_call))
        version += in_a_call
    return version - 1


def appended_each_second(in_a_call: int) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        counts = list(threads.map(lambda _: produce(in_a_call, started + SECONDS), range(THREADS)))
    return sum(counts) / (time.monotonic() - started)


def selected_each_second(aggregate: UUID) -> float:
    started = time.monotonic()
    assert len(recorder.select_events(aggregate)) == EVENTS
    return EVENTS / (time.monotonic() - started)


def fill() -> str:
    long = uuid4()
    for version in range(1, EVENTS, 1000):
        recorder.insert_events(events(long, version, 1000))
    return str(long)


found: dict[str, float | str]
match what:
    case "append":
        produce(1, time.monotonic() + 0.5)
        found = {"single": appended_each_second(1), "batches": appended_each_second(IN_A_CALL)}
    case "fill":
        found = {"aggregate": fill()}
    case "select":
        found = {"select": selected_each_second(UUID(names[0]))}
factory.close()
sys.stdout.write("\n" + json.dumps(found) + "\n")
