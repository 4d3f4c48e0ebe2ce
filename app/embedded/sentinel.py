"""A small process that outlives a killed supervisor, and ends what it left running.

It holds the read end of a pipe. However the supervisor ends, the kernel closes the other end. (A parent-death
signal would not do: it fires when the starting thread ends, and does not reach grandchildren.)
"""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from app.embedded.running import StackLock
from app.embedded.strays import end_stack
from app.errors import StackRunning
from app.privacy import be_private

ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What it may need to start; keys and tokens of the supervisor's are none of its business."""


class Sentinel:
    """Started by the supervisor, and closed by it when everything has been stopped."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> "Sentinel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> None:
    be_private()
    home = Path(sys.argv[1])
    sys.stdin.buffer.read()
    lock = StackLock(home)
    try:
        lock.take(patience=0)
    except StackRunning:  # the supervisor lives and has stopped all itself, or the next one is at work
        return
    try:
        end_stack(home)
    finally:
        lock.release()


if __name__ == "__main__":
    main()
