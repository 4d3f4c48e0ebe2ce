"""Reading a file that someone else may have made: a regular one, of a size that the person bounds, line by line."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.errors import BadExport, BadPath

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_NAMES = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@contextmanager
def open_regular(path: Path, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens it without following a link, and without waiting for a pipe's other end. Raises BadPath."""
    try:
        # O_NONBLOCK: opening a pipe would wait for a writer, and what it is can be asked only then without a race.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadPath(f"{path} is a link; name the file itself") from None
        raise BadPath(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # NUL in its name
        raise BadPath(f"{str(path)!r} cannot be read: {error}") from error
    try:
        _check(path, os.fstat(number), max_bytes)
    except BadPath:
        os.close(number)
        raise
    with os.fdopen(number, "rb") as file:
        yield file


def _check(path: Path, found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = next((name for is_so, name in _NAMES if is_so(found.st_mode)), "no file")
        raise BadPath(f"{path} is {what}; only a regular file is read")
    if found.st_size > max_bytes:
        raise BadPath(f"{path} has {found.st_size} bytes, which is more than --max-bytes {max_bytes}")


def bounded_lines(file: BinaryIO, path: Path, *, max_bytes: int, max_line_bytes: int) -> Iterator[bytes]:
    """Its lines. Raises BadExport for one that is too long and for what is packed, BadPath where the file has grown."""
    number = total = 0
    while line := file.readline(max_line_bytes + 1):
        number, total = number + 1, total + len(line)
        if number == 1 and (packing := next((name for begin, name in _PACKED.items() if line.startswith(begin)), None)):
            raise BadExport(f"{path} is packed ({packing}); unpack it first, and look at how large it gets")
        if len(line) > max_line_bytes:
            raise BadExport(f"line {number} of {path} has more than {max_line_bytes} bytes (--max-line-bytes)")
        if total > max_bytes:
            raise BadPath(f"{path} has grown beyond --max-bytes {max_bytes} while it was read")
        yield line
