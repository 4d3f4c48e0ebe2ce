"""Runs in DBOS's environment: events a second that one step of a workflow writes into a stream."""

import json
import sys
import time

from dbos import DBOS

EVENTS = 1000
PAYLOAD = {"t": "agent_event", "agent": "codesmith", "phase": "progress", "msg": "x" * 200}

url = sys.argv[1]
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING", "run_admin_server": False})


@DBOS.step()
def write(count: int) -> float:
    started = time.monotonic()
    for number in range(count):
        DBOS.write_stream("events", {**PAYLOAD, "progress": number})
    return count / (time.monotonic() - started)


@DBOS.workflow()
def produce() -> float:
    write(100)
    return write(EVENTS)


DBOS.launch()
rate = produce()
DBOS.destroy()
sys.stdout.write("\n" + json.dumps({"rate": rate}) + "\n")
