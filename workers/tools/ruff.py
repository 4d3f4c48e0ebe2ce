"""Ruff on a project: under the project's own configuration, and only where the project's files really are."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ruff import find_ruff_bin  # type: ignore[import-untyped] # it ships no types

from app.errors import ToolFailed
from workers.children.guarded import Completed, project_environment, run_guarded
from workers.children.scratch import scratch_directory
from workers.reading.files import shown_name
from workers.tools.files import leaves, links_that_leave
from workers.tools.sifting import sift

TIME_LIMIT = timedelta(minutes=10)
TRIAL_TIME_LIMIT = timedelta(seconds=20)
MAX_TRIALS = 24
MAX_SAID_CHARACTERS = 500
"""Of an error, which may quote the project at length."""
ONLY_LOOK = ("--no-fix", "--no-fix-only")  # a project's `fix-only = true` wins over the former alone
EXIT_CODES = (0, 1)  # 1: it found something; others: it could not do its work


@dataclass(frozen=True, slots=True)
class Finding:
    """One diagnostic of `ruff check`. `fix` is "safe", "unsafe", "display" or None."""

    rule: str
    file: str
    line: int
    message: str
    fix: str | None


@dataclass(slots=True)
class Ruff:
    """`isolated`: without the project's configuration, which ruff refused for the reason in `problem`. `left_out`:
    files on which ruff cannot work."""

    worktree: Path
    isolated: bool = False
    problem: str | None = None
    left_out: set[str] = field(default_factory=set)

    @classmethod
    async def for_project(cls, worktree: Path) -> "Ruff":
        """Works under the project's configuration if ruff takes it."""
        worktree = await asyncio.to_thread(worktree.resolve)
        done = await cls(worktree)._run("check", "--show-files")
        return cls(worktree, isolated=True, problem=_said(done)) if _failed(done) else cls(worktree)

    async def check(self) -> list[Finding]:
        done = await self._run_on_all("check", *ONLY_LOOK, "--output-format", "json-lines")
        if _failed(done):
            raise ToolFailed(f"ruff check failed: {_said(done)}")
        return await asyncio.to_thread(self._findings, done.stdout)

    async def fix(self) -> None:
        """Applies the safe fixes, whatever the configuration says about unsafe ones."""
        options = ["--fix", "--no-unsafe-fixes", "--exit-zero", "--quiet"]
        done = await self._run_on_all("check", *options)
        if _failed(done):
            raise ToolFailed(f"ruff check --fix failed: {_said(done)}")

    async def unformatted(self, options: Sequence[str] = ()) -> list[str]:
        """Files that `format` would change; those that do not parse are not among them."""
        options = ["--check", "--output-format", "json-lines", *options]
        done = await self._run_on_all("format", *options)
        try:
            return await asyncio.to_thread(self._unformatted, done.stdout)
        except ValueError:
            raise ToolFailed(f"ruff format failed: {_said(done)}") from None

    async def format(self, files: Sequence[str], options: Sequence[str] = ()) -> None:
        """Formats these files; one that does not parse, or is excluded, stays as it is."""
        await self._run("format", "--quiet", *options, files=files)

    async def _run_on_all(self, *command: str) -> Completed:
        """On all files but those that it dies of, or does not come to an end with: very deep Python is enough."""
        done = await self._run(*command, files=await self._files())
        if done.returncode >= 0 and not done.timed_out and not done.truncated:
            return done
        files = await self._files() or await self._list()
        kept = set(await sift(files, self._is_survived, trials=MAX_TRIALS))
        self.left_out |= {file for file in files if file not in kept}
        return await self._run(*command, files=[file for file in files if file in kept])

    async def _is_survived(self, files: Sequence[str]) -> bool:
        return not _failed(await self._run("check", *ONLY_LOOK, "--quiet", files=files, time_limit=TRIAL_TIME_LIMIT))

    async def _files(self) -> list[str] | None:
        """None, which means all; a list if a link leads outside, for ruff would write through it."""
        if not self.left_out and not await asyncio.to_thread(links_that_leave, self.worktree):
            return None
        return [file for file in await self._list() if file not in self.left_out]

    async def _list(self) -> list[str]:
        shown = await self._run("check", "--show-files")
        return await asyncio.to_thread(self._inside, shown.stdout.splitlines())

    def _inside(self, lines: Sequence[bytes]) -> list[str]:
        """A name with a newline in it comes as two lines, of which none is its own: it is left out."""
        files = (Path(os.fsdecode(line)) for line in lines)
        return [
            self._relative(str(file))
            for file in files
            if file.is_relative_to(self.worktree) and os.path.lexists(file) and not leaves(file, self.worktree)
        ]

    async def _run(
        self,
        command: str,
        *arguments: str,
        files: Sequence[str] | None = None,
        time_limit: timedelta = TIME_LIMIT,
    ) -> Completed:
        if files is not None and not files:
            return Completed(0, b"", b"")  # ruff would take no files for all files
        isolated = ["--isolated"] if self.isolated else []
        async with scratch_directory() as directory:
            selected = []
            if files is not None:
                # in a file, for a command line holds only so many
                lines = (b"./%s\n" % os.fsencode(file) for file in files if "\n" not in file)
                (directory / "files").write_bytes(b"".join(lines))
                selected = ["--force-exclude", f"@{directory / 'files'}"]
            return await run_guarded(
                [find_ruff_bin(), command, "--no-cache", *isolated, *arguments, *selected],
                cwd=self.worktree,
                env=project_environment(directory),
                timeout=time_limit,
            )

    def _findings(self, lines: bytes) -> list[Finding]:
        """Line by line: reading one long array would hold up every other thread."""
        return [self._finding(json.loads(line)) for line in lines.splitlines()]

    def _unformatted(self, lines: bytes) -> list[str]:
        items = (json.loads(line) for line in lines.splitlines())
        return sorted({self._relative(item["filename"]) for item in items if item["code"] == "unformatted"})

    def _finding(self, item: dict[str, Any]) -> Finding:
        fix = item["fix"]["applicability"] if item["fix"] else None
        file = self._relative(item["filename"])
        return Finding(item["code"] or "invalid-syntax", file, item["location"]["row"], item["message"], fix)

    def _relative(self, filename: str) -> str:
        return Path(filename).relative_to(self.worktree).as_posix()


def findings_by_file(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(finding.file for finding in findings)


def _failed(done: Completed) -> bool:
    return done.returncode not in EXIT_CODES or done.timed_out or done.truncated


def _said(done: Completed) -> str:
    if done.timed_out:
        return f"it took longer than {TIME_LIMIT}"
    text = " ".join(done.stderr.decode(errors="replace").split())
    said = shown_name(text.removeprefix("ruff failed ").removeprefix("Cause: ")[:MAX_SAID_CHARACTERS])
    return said or f"it ended with {done.returncode}"
