"""python -m workers.alone SESSION STEP LEASE: runs one attempt, claimed by its worker, in a process of its own.

An attempt of a step that was lost before may be what killed its worker; here it takes no neighbours along.
"""

import signal
import sys
from types import FrameType
from uuid import UUID

from app.config import settings
from app.logging import configure_logging
from app.progress import SessionId
from workers.registry import load_workflows
from workers.runtime import Runtime


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> None:
    session_id, step, lease = sys.argv[1:]
    configure_logging(settings())
    signal.signal(signal.SIGTERM, _end)
    runtime = Runtime(settings(), load_workflows(settings().workflows, settings().allowed_state_types), alone=True)
    runtime.start()
    print("started", flush=True)  # noqa: T201  # to the worker: another process may start now
    try:
        runtime.run_leased(SessionId(UUID(session_id)), int(step), UUID(lease))
    finally:
        runtime.stop()


if __name__ == "__main__":
    main()
