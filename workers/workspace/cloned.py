"""What a cloned repository holds, which another's server made up: measured, and without what cannot be checked out."""

import asyncio
import os
from contextlib import suppress
from datetime import timedelta

from app.config import MIB
from app.errors import BadPath, GitFailed
from workers.children.guarded import guarded
from workers.reading.files import MAX_DEPTH, MAX_PATH_BYTES, LeftOut
from workers.reading.listing import LINK, is_no_name
from workers.reading.process import LIMITS
from workers.workspace.git import Git, clean_environment, command
from workers.workspace.importer import REF, quoted
from workers.workspace.project import Limits

LISTING_TIME_LIMIT = timedelta(minutes=1)
LISTING_BYTES = 128 * MIB


def take_out_what_does_not_fit(git: Git, repo: str, limits: Limits, left_out: LeftOut) -> None:
    """Raises BadPath for one that is too large: a few small objects can stand for any number of files."""
    listed = asyncio.run(_list(git, limits.max_files))  # this is a thread, without a loop
    entries = [entry.partition(b"\t")[::2] for entry in (listed or b"").split(b"\0") if entry]
    if listed is None:
        raise BadPath(f"{repo} holds more than {limits.max_files:,} files.")
    odd = []
    size = 0
    for facts, name in entries:
        mode, _, _, length = facts.split()
        size += int(length) if length.isdigit() else 0
        if why := _why_not(mode.decode(), name):
            left_out.add(os.fsdecode(name), why)
            odd.append(name)
    if size > limits.max_bytes:
        raise BadPath(f"{repo} holds more than {limits.max_bytes:,} bytes.")
    if odd:
        _take_out(git, repo, odd)


async def _list(git: Git, max_files: int) -> bytes | None:
    """None if there are more, or no end of it is seen."""
    listing = command([f"--git-dir={git.gitdir}", "ls-tree", "-r", "-l", "-z", REF])
    listed, count = bytearray(), 0
    async with guarded(listing, cwd=git.gitdir, env=clean_environment(), rlimits=LIMITS) as process:
        assert process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTING_TIME_LIMIT.total_seconds()):
                while count <= max_files and len(listed) <= LISTING_BYTES:
                    if not (chunk := await process.stdout.read(MIB)):
                        return bytes(listed) if await process.wait() == 0 else None
                    listed += chunk
                    count += chunk.count(b"\0")
    return None


def _why_not(mode: str, name: bytes) -> str | None:
    path = os.fsdecode(name)
    if len(name) > MAX_PATH_BYTES or path.count("/") > MAX_DEPTH:
        return "its path is too long"
    if is_no_name(path, is_link=mode == LINK):
        return "git does not check out such a name"
    return None


def _take_out(git: Git, repo: str, names: list[bytes]) -> None:
    message = b"without what cannot be checked out\n"
    ref = REF.encode()
    lines = [b"commit %s\ncommitter stellwerk <stellwerk@localhost> now\n" % ref]
    lines += [b"data %d\n%s\nfrom %s^0\n" % (len(message), message, ref)]
    lines += [b"D %s\n" % quoted(name) for name in names]
    try:
        git.run("fast-import", "--quiet", "--done", "--date-format=now", stdin=b"".join(lines) + b"\ndone\n")
    except GitFailed as error:
        raise BadPath(f"{repo} holds names that git does not check out: {error}") from error
