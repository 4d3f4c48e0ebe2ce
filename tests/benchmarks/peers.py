"""Peers in environments of their own: what they need never meets what we need."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

PEERS = Path(__file__).with_name("peer")
"""Programs that run in a peer's environment: they import nothing of ours and print one JSON object."""


def python_with(*requirements: str) -> Path:
    """The interpreter of an environment that has these, made once and kept in the user's cache.

    Raises CalledProcessError when they cannot be installed.
    """
    digest = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    directory = user_cache_path("stellwerk-bench") / digest
    python = directory / "bin" / "python"
    done = directory / "installed"
    if not done.exists():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True
        )
        done.touch()
    return python


def run_peer(python: Path, program: str, *arguments: str) -> dict[str, Any]:
    """What peer/<program>.py printed as its last line."""
    command: list[str | Path] = [python, PEERS / f"{program}.py", *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    if output.returncode:
        raise RuntimeError(f"{program} ended with {output.returncode}:\n{output.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return answer
