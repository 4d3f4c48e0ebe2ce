"""Runs in DBOS's environment: workflows of one step through its queue, and steps of many workflows at once."""

import json
import sys
import time

from dbos import DBOS

POLL_SECONDS = 0.01
"""A hundredth of the default; each poll is a transaction."""
IN_SEQUENCE = 40
AT_ONCE = 150
WORKFLOWS = 64
STEPS = 10

url = sys.argv[1]
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})


@DBOS.step()
def step(number: int) -> int:
    return number - 1


@DBOS.workflow()
def one_step(number: int) -> int:
    return step(number)


@DBOS.workflow()
def chain(left: int) -> int:
    while left:
        left = step(left)
    return left


def in_sequence(count: int) -> float:
    started = time.monotonic()
    for number in range(count):
        DBOS.enqueue_workflow("bench", one_step, number).get_result(polling_interval_sec=POLL_SECONDS / 2)
    return count / (time.monotonic() - started)


def enqueued_at_once(count: int) -> float:
    started = time.monotonic()
    handles = [DBOS.enqueue_workflow("bench", one_step, number) for number in range(count)]
    for handle in handles:
        handle.get_result(polling_interval_sec=POLL_SECONDS)
    return count / (time.monotonic() - started)


def concurrent_steps() -> float:
    started = time.monotonic()
    handles = [DBOS.start_workflow(chain, STEPS) for _ in range(WORKFLOWS)]
    for handle in handles:
        handle.get_result(polling_interval_sec=POLL_SECONDS)
    return WORKFLOWS * STEPS / (time.monotonic() - started)


DBOS.launch()
DBOS.register_queue("bench", polling_interval_sec=POLL_SECONDS)
time.sleep(1.5)  # its queues are looked up once a second
in_sequence(5)
chain(20)
rates = {"sequence": in_sequence(IN_SEQUENCE), "queued": enqueued_at_once(AT_ONCE), "concurrent": concurrent_steps()}
DBOS.destroy()
sys.stdout.write("\n" + json.dumps(rates) + "\n")
