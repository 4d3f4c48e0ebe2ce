"""The pages for people, cut into what can be checked: fenced blocks, code spans and links, each with its line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CLIENTS = "app/gateway/README.md"
"""Its blocks are clients of a gateway, which another test runs."""
NAMES = (
    "README.md",
    "app/README.md",
    CLIENTS,
    "workers/README.md",
    "migrations/README.md",
    "tests/README.md",
    ".github/CONTRIBUTING.md",
)

FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>\w*) ?(?P<about>[^`]*)")
SPAN = re.compile(r"(?P<ticks>`+)(?P<text>.+?)(?P=ticks)")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
FILE_COMMENT = re.compile(r"# (?P<path>[\w/]+\.py)\n")


class Found(NamedTuple):
    """A piece of a page's text."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences; `line` is the first one of it, `about` what stands behind the language."""

    line: int
    language: str
    about: str
    text: str

    @property
    def file(self) -> str | None:
        """The module that it is, if its first line says so in a comment."""
        found = FILE_COMMENT.match(self.text)
        return found["path"] if found else None


@dataclass(frozen=True)
class Page:
    name: str
    root: Path = ROOT

    @property
    def file(self) -> Path:
        return self.root / self.name

    @cached_property
    def lines(self) -> list[str]:
        return self.file.read_text(encoding="utf-8").splitlines()

    @cached_property
    def _cut(self) -> tuple[list[Block], list[Found]]:
        """The blocks, and the lines outside of them."""
        blocks, prose = list[Block](), list[Found]()
        numbered = iter(enumerate(self.lines, 1))
        for number, line in numbered:
            if fence := FENCE.fullmatch(line):
                inside = []
                for _, inner in numbered:
                    if inner.strip() == fence["fence"]:
                        break
                    inside.append(inner.removeprefix(fence["indent"]) + "\n")
                else:
                    raise AssertionError(f"{self.name}:{number}: the fence is not closed")
                blocks.append(Block(number + 1, fence["language"], fence["about"], "".join(inside)))
            else:
                prose.append(Found(number, line))
        return blocks, prose

    def blocks(self, language: str | None = None) -> list[Block]:
        return [block for block in self._cut[0] if language in {None, block.language}]

    @property
    def prose(self) -> list[Found]:
        return self._cut[1]

    @property
    def spans(self) -> Iterator[Found]:
        """What stands in backticks; in a table a bar has a backslash before it."""
        for number, line in self.prose:
            for span in SPAN.finditer(line):
                yield Found(number, span["text"].replace(r"\|", "|"))

    @property
    def links(self) -> Iterator[Found]:
        for number, line in self.prose:
            for link in LINK.finditer(SPAN.sub("", line)):
                yield Found(number, link["target"])

    @property
    def headings(self) -> Iterator[Found]:
        for number, line in self.prose:
            if line.startswith("#"):
                yield Found(number, line.lstrip("#").strip())

    def first_cells(self, heading: str) -> list[Found]:
        """The names in the first column of the table below the heading, one for each backticked word."""
        (start,) = [found.line for found in self.headings if found.text == heading]
        cells = []
        for number, line in self.prose:
            if number > start and line.startswith("#"):
                break
            if number > start and line.startswith("| `"):
                cells += [Found(number, span["text"]) for span in SPAN.finditer(line.split("|")[1])]
        return cells


PAGES = tuple(Page(name) for name in NAMES if (ROOT / name).exists())


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def statements(block: Block) -> list[Found]:
    """Those of a block of SQL, which end at a semicolon at the end of a line."""
    found, line = [], block.line
    for statement in re.split(r";[ \t]*\n", block.text):
        if statement.strip():
            blank = len(statement) - len(statement.lstrip("\n"))
            found.append(Found(line + blank, statement.strip()))
        line += statement.count("\n") + 1
    return found
