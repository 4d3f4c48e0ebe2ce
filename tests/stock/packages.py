"""The packages of Node's clients, as their lock file names them, from the registry that npm knows here."""

import os
import subprocess
from pathlib import Path
from shutil import copyfile, which

import pytest

from tests.surroundings import optional_program

HERE = Path(__file__).parent


def install_clients(directory: Path) -> None:
    """Skips the test where there is no Node, or no registry."""
    npm, node = optional_program("npm"), optional_program("node")
    if npm is None or node is None:
        pytest.skip("Node or npm is not installed: Debian's packages nodejs and npm bring them")
    for name in ("package.json", "package-lock.json", "follow.mjs"):
        copyfile(HERE / name, directory / name)
    path = f"{Path(node).parent}:{Path(which('sh') or '/bin/sh').parent}"
    made = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=20000", "--fetch-retries=2"],
        cwd=directory,
        env=os.environ | {"PATH": path, "npm_config_cache": str(directory / "cache")},
        capture_output=True,
        check=False,
        timeout=120,
    )
    if made.returncode != 0:
        pytest.skip(f"npm could not install the clients: {made.stderr[-300:].decode(errors='replace')}")
