"""Ruff on a project: under the project's own configuration, on a copy, and as confined as the project's own code."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ruff import find_ruff_bin  # type: ignore[import-untyped] # it ships no types

from app.config import MIB, Settings
from app.errors import ToolFailed
from workers.children.guarded import Completed
from workers.children.project_room import ProjectRoom, project_room
from workers.reading.files import Walk, shown_name
from workers.tools.copies import ProjectCopy
from workers.tools.sifting import sift

TIME_LIMIT = timedelta(minutes=10)
TRIAL_TIME_LIMIT = timedelta(seconds=20)
MAX_TRIALS = 24
ONLY_LOOK = ("--no-fix", "--no-fix-only")  # a project's `fix-only = true` wins over the former alone
MAX_SAID_CHARACTERS = 500
"""Of an error, which may quote the project at length."""
MAX_OUTPUT_BYTES = 256 * MIB
EXIT_CODES = (0, 1)  # 1: it found something; others: it could not do its work
REFUSED = 2  # the configuration, say; with others it died
_EXTENDED = re.compile(r"extended configuration `([^`\n]*)`")


@dataclass(frozen=True, slots=True)
class Finding:
    """One diagnostic of `ruff check`. `fix` is "safe", "unsafe", "display" or None."""

    rule: str
    file: str
    line: int
    message: str
    fix: str | None


@asynccontextmanager
async def ruff_on(worktree: Path, settings: Settings, *, isolated: bool | None = None) -> AsyncIterator["Ruff"]:
    """On a copy of the project as it is now. `isolated`: without its configuration; None: only if ruff refuses that.

    Raises SandboxRequired.
    """
    async with project_room(settings) as room:
        ruff = Ruff(room, await asyncio.to_thread(ProjectCopy.make, worktree, room.files), isolated=bool(isolated))
        yield await ruff.under_its_configuration() if isolated is None else ruff


@dataclass(frozen=True, slots=True)
class Ruff:
    """`isolated`: without the project's configuration, which ruff refused for the reason in `problem`. `left_out`:
    files on which ruff cannot work, and which the copy has no more."""

    room: ProjectRoom
    copy: ProjectCopy
    isolated: bool = False
    problem: str | None = None
    left_out: set[str] = field(default_factory=set)

    async def under_its_configuration(self) -> "Ruff":
        """Works under the project's configuration if ruff takes it."""
        done = await self._run("check", "--show-files")
        return replace(self, isolated=True, problem=self._said(done)) if _failed(done) else self

    async def check(self) -> list[Finding]:
        done = await self._run_on_all("check", *ONLY_LOOK, "--output-format", "json-lines")
        if _failed(done):
            raise ToolFailed(f"ruff check failed: {self._said(done)}")
        return await asyncio.to_thread(self._findings, done.stdout)

    async def fix(self) -> None:
        """Applies the safe fixes, whatever the configuration says about unsafe ones."""
        done = await self._run_on_all("check", "--fix", "--no-unsafe-fixes", "--exit-zero", "--quiet")
        if _failed(done):
            raise ToolFailed(f"ruff check --fix failed: {self._said(done)}")
        await asyncio.to_thread(self.copy.bring_back)

    async def unformatted(self, options: Sequence[str] = ()) -> list[str]:
        """Files that `format` would change; those that do not parse are not among them."""
        done = await self._run_on_all("format", "--check", "--output-format", "json-lines", *options)
        try:
            return await asyncio.to_thread(self._unformatted, done.stdout)
        except ValueError:
            raise ToolFailed(f"ruff format failed: {self._said(done)}") from None

    async def format(self, files: Sequence[str], options: Sequence[str] = ()) -> None:
        """Formats these files; one that does not parse, is excluded or is named over two lines stays as it is."""
        if any(_can_be_named(file) for file in files):
            await self._run("format", "--quiet", *options, *await self._selected(files))
            await asyncio.to_thread(self.copy.bring_back)

    async def _run_on_all(self, *command: str) -> Completed:
        """Takes files out of the copy of which ruff dies, or does not come to an end: very deep Python is enough."""
        done = await self._run(*command)
        if not _died(done):
            return done
        shown = await self._run("check", "--show-files")
        files = await asyncio.to_thread(self._listed, shown.stdout.split(b"\n"))
        kept = set(await sift(files, self._is_survived, trials=MAX_TRIALS))
        for file in files:
            if file not in kept:
                self._leave_out(file)
        return await self._run(*command)

    async def _is_survived(self, files: Sequence[str]) -> bool:
        selected = await self._selected(files)
        return not _died(await self._run("check", *ONLY_LOOK, "--quiet", *selected, time_limit=TRIAL_TIME_LIMIT))

    def _listed(self, lines: Sequence[bytes]) -> list[str]:
        """A file whose path goes over two lines cannot be named to ruff, and is taken out."""
        for found in Walk(str(self.copy.worktree)):
            if found.is_regular and not _can_be_named(found.path):
                self._leave_out(found.path)
        files = (Path(os.fsdecode(line)) for line in lines)
        inside = [file for file in files if file.is_relative_to(self.copy.worktree) and os.path.lexists(file)]
        return [self.copy.relative(str(file)) for file in inside]

    def _leave_out(self, file: str) -> None:
        (self.copy.worktree / file).unlink(missing_ok=True)
        self.left_out.add(file)

    async def _selected(self, files: Sequence[str]) -> list[str]:
        """Options that name these files, in a file, since a command line holds only so many."""
        listed = self.room.directory / "files"
        named = [b"./%s\n" % os.fsencode(file) for file in files if _can_be_named(file)]
        await asyncio.to_thread(listed.write_bytes, b"".join(named))
        return ["--force-exclude", f"@{listed}"]

    async def _run(self, command: str, *arguments: str, time_limit: timedelta = TIME_LIMIT) -> Completed:
        isolated = ["--isolated"] if self.isolated else []
        return await self.room.run(
            [find_ruff_bin(), command, "--no-cache", *isolated, *arguments],
            cwd=self.copy.worktree,
            timeout=time_limit,
            stdout_limit=MAX_OUTPUT_BYTES,
            is_ours=True,
        )

    def _findings(self, lines: bytes) -> list[Finding]:
        """Line by line: reading one long array would hold up every other thread."""
        return [self._finding(json.loads(line)) for line in lines.splitlines()]

    def _unformatted(self, lines: bytes) -> list[str]:
        items = (json.loads(line) for line in lines.splitlines())
        return sorted({self.copy.relative(item["filename"]) for item in items if item["code"] == "unformatted"})

    def _finding(self, item: dict[str, Any]) -> Finding:
        fix = item["fix"]["applicability"] if item["fix"] else None
        file = self.copy.relative(item["filename"])
        return Finding(item["code"] or "invalid-syntax", file, item["location"]["row"], item["message"], fix)

    def _said(self, done: Completed) -> str:
        """Without the lines that ruff quotes: they need not be the project's own, since it may extend any file."""
        if done.timed_out:
            return f"it took longer than {TIME_LIMIT}"
        text = done.stderr.decode(errors="replace")
        for extended in _EXTENDED.findall(text):
            if not Path(extended).is_relative_to(self.copy.worktree):
                named = shown_name(extended[:MAX_SAID_CHARACTERS])
                return f"its configuration extends {named}, which lies outside of the project"
        causes = [line.strip().removeprefix("Cause: ") for line in text.splitlines() if "Cause: " in line]
        said = "; ".join(causes) or " ".join(text.split())
        said = said.replace(f"{self.copy.worktree}/", "")[:MAX_SAID_CHARACTERS]
        return shown_name(said) or f"it ended with {done.returncode}"


def findings_by_file(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(finding.file for finding in findings)


def _can_be_named(file: str) -> bool:
    """In a file of names, one on each line."""
    return "\n" not in file and "\r" not in file


def _died(done: Completed) -> bool:
    return done.returncode not in {*EXIT_CODES, REFUSED} or done.timed_out or done.truncated


def _failed(done: Completed) -> bool:
    return done.returncode not in EXIT_CODES or done.timed_out or done.truncated
