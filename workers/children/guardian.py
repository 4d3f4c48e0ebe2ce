"""The guardian: starts one command and lets nothing of it outlive the command, or the worker that wanted it.

Run as a script, by path, with the standard library alone, so that it starts in a few milliseconds:

    guardian.py CONTROL_FD GRACE_SECONDS [RLIMIT_NAME=VALUE …] -- COMMAND [ARGUMENT …]

CONTROL_FD is the reading end of a pipe that the worker holds and never writes to. When it closes, because the
worker wants the command gone or was killed itself, every process that came from the command is ended: SIGTERM,
and SIGKILL after the grace. The same happens to what the command leaves when it ends by itself. The
guardian then ends as the command did, with its exit code or by its signal.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.01
GIVE_UP_SECONDS = 10.0  # on what survives SIGKILL: a process that hangs in the kernel, or another account's
NOT_FOUND = 127


def main(arguments: list[str]) -> None:
    separator = arguments.index("--")
    control, grace = int(arguments[0]), float(arguments[1])
    limits = [limit.split("=") for limit in arguments[2:separator]]
    os.set_inheritable(control, False)
    _adopt_orphans()
    woken = _wake_on_child_and_signals()
    rlimits = [(int(getattr(resource, name)), int(value)) for name, value in limits]
    child = _start(arguments[separator + 1 :], rlimits)
    status = _watch(child, control, woken)
    _end_all(child, grace)
    _end_as(status)


def _adopt_orphans() -> None:
    """Makes whatever loses its parent ours, so that even a daemon stays findable; and lets none of them trace us.

    Linux only.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _wake_on_child_and_signals() -> int:
    """A descriptor that becomes readable when a child ends or the worker asks us to stop."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reading


def _start(command: list[str], limits: list[tuple[int, int]]) -> int:
    guardian = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        _end_with(guardian)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        for kind, value in limits:
            _, hard = resource.getrlimit(kind)
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (allowed, allowed))
        os.execvp(command[0], command)  # noqa: S606 - to run a command is what this is for
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(NOT_FOUND)


def _end_with(guardian: int) -> None:
    """A command that kills its guardian ends with it; what it has started by then is the worker's to find."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:
            os._exit(NOT_FOUND)


def _watch(child: int, control: int, woken: int) -> int | None:
    """Returns the child's wait status, or None when it is to be ended."""
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            numbers = os.read(woken, 4096)
            if any(number != signal.SIGCHLD for number in numbers):
                return None
            status = _reap(child)
            if status is not None:
                return status
        if control in readable:
            return None


def _reap(child: int) -> int | None:
    """Buries all that are dead; returns the child's status if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found


def _end_all(child: int, grace: float) -> None:
    """Ends every descendant. Repeated until none is seen, for they may be forking meanwhile."""
    _signal_all(child, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _alive(child) and time.monotonic() < deadline + GIVE_UP_SECONDS:
        if time.monotonic() > deadline:
            _signal_all(child, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _alive(child: int) -> bool:
    _reap(child)
    return bool(_descendants()) if sys.platform == "linux" else _group_exists(child)


def _signal_all(child: int, number: int) -> None:
    if sys.platform != "linux":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, number)
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _descendants() -> set[int]:
    """Finds them in /proc; where there is none, the process group has to do."""
    children: dict[int, list[int]] = {}
    if sys.platform == "linux":
        with os.scandir("/proc") as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
        for pid in pids:
            with contextlib.suppress(OSError):
                children.setdefault(_parent(pid), []).append(pid)
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        for pid in children.get(pending.pop(), ()):
            found.add(pid)
            pending.append(pid)
    return found


def _parent(pid: int) -> int:
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        # the second field, a name in parentheses, may hold anything
        return int(os.read(descriptor, 4096).rpartition(b")")[2].split()[1])
    finally:
        os.close(descriptor)


def _end_as(status: int | None) -> None:
    if status is not None and os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = signal.SIGKILL if status is None else os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main(sys.argv[1:])
