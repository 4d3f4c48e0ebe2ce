"""What a process of ours keeps from others of its own account."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from app.embedded.home import NOBODY
from app.privacy import be_private
from tests.stacks import ROOT

PR_SET_DUMPABLE = 4


def in_child(*begin: Callable[[], None]) -> tuple[bool, bool]:
    """Whether another process of its account reads the environment and the memory of one that began so."""
    told, telling = os.pipe()
    held, holding = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(holding)
        _become_ordinary()
        for one in begin:
            one()
        os.write(telling, b".")
        os.read(held, 1)
        os._exit(0)
    os.read(told, 1)
    looking = os.fork()
    if looking == 0:
        _become_ordinary()
        os._exit(sum(1 << n for n, name in enumerate(("environ", "mem")) if _opens(f"/proc/{child}/{name}")))
    _, status = os.waitpid(looking, 0)
    os.close(holding)
    os.waitpid(child, 0)
    for descriptor in (told, telling, held):
        os.close(descriptor)
    found = os.waitstatus_to_exitcode(status)
    return bool(found & 1), bool(found & 2)


def _become_ordinary() -> None:
    """Changing the account closes a process, too; so that is undone first."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such call")
def test_neither_environment_nor_memory_is_read_by_what_it_starts() -> None:
    assert in_child() == (True, True), "or this test would prove nothing"
    assert in_child(be_private) == (False, False)


def test_what_is_forgotten_is_not_handed_on() -> None:
    script = (
        "import os, subprocess; from app.privacy import be_private; be_private(forget=['token'])\n"
        "print(os.popen('echo \"$STELLWERK_TOKEN-$STELLWERK_HOME\"; umask').read())"
    )
    given = os.environ | {"STELLWERK_TOKEN": "secret", "STELLWERK_HOME": "kept", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-kept", "0077"]
