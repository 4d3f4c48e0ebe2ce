"""Removing directories whatever is in them."""

import shutil
import subprocess
from pathlib import Path


def remove_tree(directory: Path) -> None:
    """Removes what can be removed; what is left is no error, for nothing depends on it."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except RecursionError:  # a program can make more directories in a row than Python's own function goes down
        subprocess.run(["rm", "-rf", "--", str(directory)], check=False, capture_output=True)
