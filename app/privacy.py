"""What a process of ours keeps from others on its machine: the files that it makes, its environment, its memory."""

import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4


def be_private(*forgotten: str) -> None:
    """Call it where a process begins. What it starts does not get the variables that are `forgotten`.

    What it starts has the same account, so files of /proc and ptrace would open it to that: to a project's tests, say.
    Linux only; elsewhere there is no such call.
    """
    os.umask(0o077)
    for name in forgotten:
        os.environ.pop(name, None)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
