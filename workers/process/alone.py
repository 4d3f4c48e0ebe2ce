"""python -m workers.process.alone: runs attempts that its worker has claimed, one after the other, to the end of stdin.

Each line names a session, a step and a lease. An attempt of a step that was lost before may be what killed its
worker; here it takes no neighbours along.
"""

import logging
import os
import signal
import sys
from types import FrameType
from uuid import UUID

from app.config import settings
from app.known_secrets import Secrets
from app.logging import configure_logging
from app.privacy import NOT_FOR_WORKERS, be_private, without
from app.progress import SessionId
from workers.graph.loading import load_workflows
from workers.process.runtime import Runtime
from workers.steps.lone_process import ALIVE, ALIVE_EVERY_SECONDS, DONE, READY


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # what an agent prints is no answer
    be_private(forget=NOT_FOR_WORKERS)
    configured = without(settings(), NOT_FOR_WORKERS)
    configure_logging(configured)
    signal.signal(signal.SIGTERM, _end)
    workflows = load_workflows(configured.workflows, configured.allowed_state_types, Secrets.of(configured))
    runtime = Runtime(configured, workflows, alone=True)
    runtime.start()
    # Each line in one write: the loop's thread says that it is alive, between the lines of this one.
    os.write(answers, b"%s %d\n" % (READY, os.getpid()))
    runtime.tell_alive(lambda: os.write(answers, ALIVE + b"\n"), every_seconds=ALIVE_EVERY_SECONDS)
    try:
        for line in sys.stdin:
            session_id, step, lease = line.split()
            runtime.run_leased(SessionId(UUID(session_id)), int(step), UUID(lease))
            os.write(answers, DONE + b"\n")
    except SystemExit:
        pass
    runtime.stop()
    logging.shutdown()
    os._exit(0)  # threads of agents that never return are not waited for


if __name__ == "__main__":
    main()
