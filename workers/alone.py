"""python -m workers.alone SESSION STEP ATTEMPT: runs one attempt in a process of its own.

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
    session_id, step, attempt = sys.argv[1:]
    configure_logging(settings())
    signal.signal(signal.SIGTERM, _end)
    runtime = Runtime(settings(), load_workflows(settings().workflows, settings().allowed_state_types), alone=True)
    runtime.start()
    try:
        runtime.run_step(SessionId(UUID(session_id)), int(step), int(attempt))
    finally:
        runtime.stop()


if __name__ == "__main__":
    main()
