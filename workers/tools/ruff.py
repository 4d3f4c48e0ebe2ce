"""Ruff on a project: under the project's own configuration, on a copy, and as confined as the project's own code."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ruff import find_ruff_bin  # type: ignore[import-untyped] # it ships no types

from app.config import MIB, Settings
from app.errors import ToolFailed
from workers.children.guarded import Completed
from workers.children.project_room import ProjectRoom, project_room
from workers.tools.copies import ProjectCopy

TIME_LIMIT = timedelta(minutes=10)
MAX_OUTPUT_BYTES = 256 * MIB
EXIT_CODES = (0, 1)  # 1: it found something; others: it could not do its work
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
    """`isolated`: without the project's configuration, which ruff refused for the reason in `problem`."""

    room: ProjectRoom
    copy: ProjectCopy
    isolated: bool = False
    problem: str | None = None

    async def under_its_configuration(self) -> "Ruff":
        """Works under the project's configuration if ruff takes it."""
        done = await self._run("check", "--show-files")
        return replace(self, isolated=True, problem=self._said(done)) if _failed(done) else self

    async def check(self) -> list[Finding]:
        done = await self._run("check", "--no-fix", "--output-format", "json-lines")
        if _failed(done):
            raise ToolFailed(f"ruff check failed: {self._said(done)}")
        return await asyncio.to_thread(self._findings, done.stdout)

    async def fix(self) -> None:
        """Applies the safe fixes, whatever the configuration says about unsafe ones."""
        done = await self._run("check", "--fix", "--no-unsafe-fixes", "--exit-zero", "--quiet")
        if _failed(done):
            raise ToolFailed(f"ruff check --fix failed: {self._said(done)}")
        await asyncio.to_thread(self.copy.bring_back)

    async def unformatted(self, options: Sequence[str] = ()) -> list[str]:
        """Files that `format` would change; those that do not parse are not among them."""
        done = await self._run("format", "--check", "--output-format", "json-lines", *options)
        try:
            return await asyncio.to_thread(self._unformatted, done.stdout)
        except ValueError:
            raise ToolFailed(f"ruff format failed: {self._said(done)}") from None

    async def format(self, files: Sequence[str], options: Sequence[str] = ()) -> None:
        """Formats these files; one that does not parse, is excluded or is named over two lines stays as it is."""
        named = [b"./%s\n" % os.fsencode(file) for file in files if "\n" not in file]
        if named:
            # in a file, for a command line holds only so many
            listed = self.room.directory / "files"
            await asyncio.to_thread(listed.write_bytes, b"".join(named))
            await self._run("format", "--quiet", *options, "--force-exclude", f"@{listed}")
            await asyncio.to_thread(self.copy.bring_back)

    async def _run(self, command: str, *arguments: str) -> Completed:
        isolated = ["--isolated"] if self.isolated else []
        return await self.room.run(
            [find_ruff_bin(), command, "--no-cache", *isolated, *arguments],
            cwd=self.copy.worktree,
            timeout=TIME_LIMIT,
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
                return f"its configuration extends {extended}, which lies outside of the project"
        causes = [line.strip().removeprefix("Cause: ") for line in text.splitlines() if "Cause: " in line]
        said = "; ".join(causes) or " ".join(text.split())
        return said.replace(f"{self.copy.worktree}/", "") or f"it ended with {done.returncode}"


def findings_by_file(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(finding.file for finding in findings)


def _failed(done: Completed) -> bool:
    return done.returncode not in EXIT_CODES or done.timed_out or done.truncated
