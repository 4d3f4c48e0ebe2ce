"""Writing a project's files into a repository of ours as one commit, byte for byte."""

import errno
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from app.errors import BadPath, GitFailed
from workers.workspace.git import COMMITTER, Git, clean_environment, command
from workers.workspace.project import LINK, Entry

CHUNK = 1024 * 1024
REF = "refs/heads/initial"


def import_entries(git: Git, top: Path, entries: Sequence[Entry]) -> str:
    """Commits the entries below `top` as the branch `initial` and returns the commit's SHA.

    By git fast-import: no filter, attribute or ignore rule takes part, and nothing is copied twice.
    Raises BadPath for a file that cannot be read or changes meanwhile.
    """
    arguments = [f"--git-dir={git.gitdir}", "fast-import", "--quiet", "--done", "--date-format=now"]
    process = subprocess.Popen(
        command(arguments),
        cwd=git.gitdir,
        env=clean_environment() | COMMITTER,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            _write_commit(process.stdin, top, entries)
            process.stdin.close()
        except BrokenPipeError:
            pass  # fast-import ended early, and says below why
        except BaseException:
            process.kill()
            raise
        said = os.fsdecode(process.stderr.read()).strip()
    if process.returncode != 0:
        raise GitFailed(f"git fast-import ended with {process.returncode} and said: {said}")
    return git.text("rev-parse", "--verify", REF)


def _write_commit(stream: IO[bytes], top: Path, entries: Sequence[Entry]) -> None:
    message = b"the project as it was found\n"
    stream.write(b"commit %s\ncommitter stellwerk <stellwerk@localhost> now\n" % REF.encode())
    stream.write(b"data %d\n%s\n" % (len(message), message))
    for entry in entries:
        file = top / entry.path
        try:
            _write_entry(stream, file, entry)
        except FileNotFoundError:
            continue  # deleted since it was listed: the import is of what is there
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = "it was replaced by a link" if error.errno == errno.ELOOP else error.strerror
            raise BadPath(f"{file} cannot be read: {reason}.") from error
    stream.write(b"\ndone\n")


def _write_entry(stream: IO[bytes], file: Path, entry: Entry) -> None:
    """Nothing is written before the file is open."""
    header = b"M %s inline %s\n" % (entry.mode.encode(), _quote(entry.path))
    if entry.mode == LINK:
        target = os.fsencode(file.readlink())
        stream.write(header + b"data %d\n%s\n" % (len(target), target))
        return
    # Neither following a link nor waiting for a pipe that took the file's place since it was listed.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as content:
        left = os.fstat(descriptor).st_size
        stream.write(header + b"data %d\n" % left)
        while left:
            chunk = content.read(min(left, CHUNK))
            if not chunk:
                raise BadPath(f"{file} became shorter while it was read; try again when it is at rest.")
            stream.write(chunk)
            left -= len(chunk)
        stream.write(b"\n")


def _quote(path: str) -> bytes:
    """Quotes a path in C style, as git does."""
    raw = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % raw
