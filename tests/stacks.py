"""`stellwerk` as people run it: real processes, on a home of the test's own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.embedded.running import StackInfo, running_stack
from tests.processes import wait_until

ROOT = Path(__file__).parents[1]
STELLWERK = str(Path(sys.executable).with_name("stellwerk"))
WORKFLOWS = "workers.workflows.repair,tests.graphs.gated,tests.graphs.chatty"


def environment(home: Path) -> dict[str, str]:
    """As a person's shell has it, whose terminal is none."""
    return os.environ | {"STELLWERK_HOME": str(home), "STELLWERK_WORKFLOWS": WORKFLOWS, "PYTHONPATH": str(ROOT)}


def stellwerk(
    home: Path, *arguments: str, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs to the end."""
    return subprocess.run(
        [STELLWERK, *arguments],
        env=environment(home) | dict(variables or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@contextmanager
def started(home: Path, *arguments: str, errors: str = "stderr") -> Iterator["subprocess.Popen[str]"]:
    """Runs beside the test; its standard error goes to that file in the home."""
    with (home / errors).open("w") as stderr:
        process = subprocess.Popen(
            [STELLWERK, *arguments],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=40)


@contextmanager
def stack(home: Path, variables: Mapping[str, str] | None = None) -> Iterator[StackInfo]:
    with (home / "output").open("wb") as output:
        surroundings = environment(home) | dict(variables or {})
        process = psutil.Popen([STELLWERK, "up"], env=surroundings, stdout=output, stderr=output)
    try:
        wait_until(lambda: running_stack(home) or process.poll() is not None, what="up is ready", patience=120)
        info = running_stack(home)
        assert info is not None, (home / "output").read_text()
        yield info
        # what must hold of every session, whatever the tests did to it
        rebuilt = stellwerk(home, "rebuild", "--all", "--check", variables=variables)
        assert rebuilt.returncode == 0, rebuilt.stdout
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=25)
