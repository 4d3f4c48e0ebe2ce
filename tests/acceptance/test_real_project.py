"""`stellwerk run` on a real package, as its authors published it: inflection 0.5.1 (MIT), with its tests."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.stacks import stellwerk

SDIST = Path(__file__).parents[1] / "projects" / "inflection-0.5.1.tar.gz"


def git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(project), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(home: Path) -> Path:
    """A git repository of the package that is set to trap whoever runs git in it."""
    with tarfile.open(SDIST) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python 3.11 has from 3.11.4 on
        for member in archive:  # an older Python that runs as root would give the files to their authors
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        archive.extractall(home)
    project = home / "inflection-0.5.1"
    git(project, "init", "-q")
    git(project, "-c", "user.name=t", "-c", "user.email=t@t", "add", "-A")
    git(project, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "as published")
    trap = home / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {home}/sprung\n")
    trap.chmod(0o755)
    for hook in ("pre-commit", "post-checkout", "post-commit", "reference-transaction", "post-index-change"):
        (project / ".git" / "hooks" / hook).symlink_to(trap)
    git(project, "config", "core.fsmonitor", str(trap))
    (project / "untracked.py").write_text("import os\n")
    return project


def test_it_ends_better_than_before_and_touches_nothing(project: Path, home: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    done = stellwerk(home, "run", "--json", "--path", str(project))
    assert done.returncode == 0, done.stderr
    assert not (home / "sprung").exists()
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before

    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert result["findings_after"] < result["findings_before"]
    assert result["tests_before"]["passed"] == 455
    assert result["tests_after"] == result["tests_before"]
    (project / ".git" / "config").write_text("[core]\n")  # the trap is for Stellwerk, not for this test's git
    git(project, "apply", "--check", result["patch"])
    git(project, "apply", result["patch"])
    assert not (project / "untracked.py").read_text()
    changed = set(git(project, "diff", "--name-only").split())
    assert changed | {"untracked.py"} == set(result["files"])
