"""The sandbox of a deployment, on this machine."""

import shlex
import subprocess
import sys

from tests.composition import ROOT
from tests.surroundings import optional_program

PLACES = (sys.prefix, sys.base_prefix)
NO_SANDBOX = "bubblewrap is not installed, or may not make namespaces here"


def sandbox() -> str:
    """As in the compose file, with this machine's places; empty where bubblewrap is missing or not allowed to work."""
    bwrap = optional_program("bwrap")
    probe = ["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    if bwrap is None or subprocess.run([bwrap, *probe], capture_output=True, check=False).returncode:
        return ""
    options = [word for place in PLACES for word in ("--ro-bind", place, place)]
    return shlex.join([str(ROOT / "scripts" / "sandbox"), *options])
