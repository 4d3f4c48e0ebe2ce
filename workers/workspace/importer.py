"""Writing a project's files into a repository of ours as one commit, byte for byte."""

import errno
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.errors import GitFailed
from workers.reading.files import LeftOut, NotRead, Tree, reason
from workers.reading.listing import LINK
from workers.workspace.git import COMMITTER, Git, clean_environment, command
from workers.workspace.project import Entry

CHUNK = 1024 * 1024
REF = "refs/heads/initial"


def import_entries(git: Git, top: Path, entries: Sequence[Entry], left_out: LeftOut, *, max_bytes: int) -> None:
    """Commits the entries below `top` as the branch `initial`. What cannot be read, or changes meanwhile, or makes the
    whole more than `max_bytes`, goes to `left_out`.

    By git fast-import: no filter, attribute or ignore rule takes part, and nothing is copied twice.
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
        writing = _Commit(process.stdin, Tree(str(top)), left_out, max_bytes)
        try:
            writing.write(entries)
            process.stdin.close()
        except BrokenPipeError:
            pass  # fast-import ended early, and says below why
        except BaseException:
            process.kill()
            raise
        finally:
            writing.tree.close()
        said = os.fsdecode(process.stderr.read()).strip()
    if process.returncode != 0:
        raise GitFailed(f"git fast-import ended with {process.returncode} and said: {said}")


@dataclass
class _Commit:
    stream: IO[bytes]
    tree: Tree
    left_out: LeftOut
    max_bytes: int

    def write(self, entries: Sequence[Entry]) -> None:
        message = b"the project as it was found\n"
        self.stream.write(b"commit %s\ncommitter stellwerk <stellwerk@localhost> now\n" % REF.encode())
        self.stream.write(b"data %d\n%s\n" % (len(message), message))
        for entry in entries:
            try:
                self._write_link(entry) if entry.mode == LINK else self._write_file(entry)
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted since it was listed: the import is of what is there
            except BrokenPipeError:
                raise
            except NotRead as error:
                self.left_out.add(entry.path, str(error))
            except OSError as error:
                why = "it was replaced by a link" if error.errno == errno.ELOOP else reason(error)
                self.left_out.add(entry.path, why)
        self.stream.write(b"\ndone\n")

    def _write_link(self, entry: Entry) -> None:
        target = os.fsencode(self.tree.readlink(entry.path))
        self.stream.write(_header(entry) + b"data %d\n%s\n" % (len(target), target))

    def _write_file(self, entry: Entry) -> None:
        """Nothing is written before the file is open; one that cannot be read to its end is taken out again."""
        with os.fdopen(self.tree.open(entry.path), "rb") as content:
            size = os.fstat(content.fileno()).st_size
            if size > self.max_bytes:
                raise NotRead("it grew while it was read")
            self.max_bytes -= size
            self.stream.write(_header(entry) + b"data %d\n" % size)
            left = size
            try:
                while left and (chunk := content.read(min(left, CHUNK))):
                    self.stream.write(chunk)
                    left -= len(chunk)
            finally:
                if left:
                    self._take_out(entry, left)
            if left:
                raise NotRead("it became shorter while it was read")
            self.stream.write(b"\n")

    def _take_out(self, entry: Entry, missing: int) -> None:
        """git was promised so many bytes more."""
        while missing:
            missing -= self.stream.write(bytes(min(missing, CHUNK)))
        self.stream.write(b"\nD %s\n" % quoted(os.fsencode(entry.path)))


def _header(entry: Entry) -> bytes:
    return b"M %s inline %s\n" % (entry.mode.encode(), quoted(os.fsencode(entry.path)))


def quoted(path: bytes) -> bytes:
    """A path in C style, as git quotes it."""
    return b'"%s"' % path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
