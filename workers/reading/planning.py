"""What a project says of its formatter and of its tests, and what that means for ours."""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.reading.files import NotRead, Tree, Walk
from workers.reading.forked import Died, each

RUFF_FILES = (".ruff.toml", "ruff.toml")
HOOKS = ".pre-commit-config.yaml"
LINE_LENGTHS = range(1, 321)
"""Of which ruff takes."""
DEFAULT_LINE_LENGTH = 88

TEST_FILE = re.compile(r"(test_.*|.*_test|tests?)\.py", re.DOTALL)
# A line at a time: \s would take a file of empty lines from each of them to its end.
PYTEST_STYLE = re.compile(r"^[^\S\n]*(import pytest|from pytest |(async )?def test_\w*\((?!self))", re.MULTILINE)
PYTEST_CONFIGURATION = {
    "pytest.ini": "",
    ".pytest.ini": "",
    "pytest.toml": "",
    ".pytest.toml": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
DEPENDENCY_FILES = ("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "noxfile.py")
MAX_READ_BYTES = 2 * 1024 * 1024
MAX_DEPENDENCY_FILES = 50
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a project that are asked about, by their paths."""

    worktree: str
    python: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def found(cls, worktree: str) -> "Project":
        python, texts = [], []
        for found in Walk(worktree):
            if found.is_regular and found.name.endswith(".py"):
                python.append(found.path)
            elif found.is_regular and found.name.endswith(".txt") and found.path.count("/") <= 1:
                texts.append(found.path)
        return cls(worktree, tuple(python), tuple(texts))

    def read(self, path: str) -> str:
        """Empty for what is not there, is no file, or is too long to be read for a hint."""
        tree = Tree(self.worktree)
        try:
            with os.fdopen(tree.open(path), "rb") as file:
                content = file.read(MAX_READ_BYTES + 1)
        except (NotRead, OSError):
            return ""
        finally:
            tree.close()
        return content.decode("utf-8", "replace") if len(content) <= MAX_READ_BYTES else ""

    def has(self, path: str) -> bool:
        tree = Tree(self.worktree)
        try:
            return stat.S_ISREG(tree.stat(path).st_mode)
        except OSError:
            return False
        finally:
            tree.close()


def answer(request: Mapping[str, Any]) -> Iterator[Any]:
    """`plugins` of the request are those of pytest that are here: of each its name and its distribution's."""
    project = Project.found(request["worktree"])
    remarks = []
    _, agreement = next(each([project], _agreement, seconds=SECONDS))
    if isinstance(agreement, Died):
        remarks.append(f"what the project says of its formatter is left aside: {agreement}")
        agreement = None
    suite, problem = find_suite(project, request["plugins"])
    yield {"agreement": agreement, "suite": suite, "remarks": remarks + ([problem] if problem else [])}


def _agreement(project: Project) -> dict[str, Any] | None:
    found = agreed_formatter(project)
    return {"formatter": found[0], "options": found[1]} if found else None


def agreed_formatter(project: Project) -> tuple[str, list[str]] | None:
    """The formatter that ruff's or black's settings or a pre-commit hook names, and the options with which ruff formats
    as it does."""
    tool = _table(_toml(project.read("pyproject.toml")).get("tool"))
    named = project.read(HOOKS)
    in_ruff = any("format" in _toml(project.read(name)) for name in RUFF_FILES)
    if in_ruff or "format" in _table(tool.get("ruff")) or "id: ruff-format" in named:
        return "ruff format", []
    if "black" in tool or "id: black" in named:
        return "black", _as_black(_table(tool.get("black")))
    return None


def _as_black(settings: Mapping[str, Any]) -> list[str]:
    length = settings.get("line-length")
    length = length if isinstance(length, int) and length in LINE_LENGTHS else DEFAULT_LINE_LENGTH
    options = ["--line-length", str(int(length))]
    if settings.get("skip-string-normalization"):
        options += ["--config", 'format.quote-style = "preserve"']
    if settings.get("skip-magic-trailing-comma"):
        options += ["--config", "format.skip-magic-trailing-comma = true"]
    return options


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _toml(text: str) -> dict[str, Any]:
    """Empty for what is no TOML; ruff itself complains about that."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError, MemoryError):
        return {}


def find_suite(project: Project, plugins: Iterable[tuple[str, str]]) -> tuple[dict[str, Any] | None, str | None]:
    """How the tests are run, and what of them was not looked at: pytest's if anything says so, else unittest's; None
    without tests."""
    files = [path for path in project.python if TEST_FILE.fullmatch(path.rpartition("/")[2])]
    if not files:
        return None, None
    looks = dict(each(files, lambda path: _looks(project.read(path)), seconds=SECONDS))
    died = [path for path, look in looks.items() if isinstance(look, Died)]
    problem = f"{len(died)} test file(s) could not be looked at" if died else None
    styles = {style for look in looks.values() if not isinstance(look, Died) for style in look}
    has_conftest = any(path.rpartition("/")[2] == "conftest.py" for path in project.python)
    if has_conftest or "pytest" in styles or _is_configured(project):
        return {"style": "pytest", "files": len(files), "plugins": _named_plugins(project, plugins)}, problem
    if "unittest" in styles:
        return {"style": "unittest", "files": len(files), "plugins": []}, problem
    return None, problem


def _looks(text: str) -> list[str]:
    return ["pytest"] * bool(PYTEST_STYLE.search(text)) + ["unittest"] * ("unittest" in text)


def _is_configured(project: Project) -> bool:
    return any(project.has(name) and marker in project.read(name) for name, marker in PYTEST_CONFIGURATION.items())


def _named_plugins(project: Project, plugins: Iterable[tuple[str, str]]) -> list[str]:
    """Others stay off: the plugins beside us are ours, and a project's tests would not meet them at home."""
    listed = [*DEPENDENCY_FILES, *project.texts[:MAX_DEPENDENCY_FILES]]
    text = " ".join(re.sub(r"[-_.]+", "-", project.read(path).lower()) for path in listed)
    return [
        name
        for name, distribution in sorted(plugins)
        if re.search(rf"(?<![\w-]){re.escape(re.sub(r'[-_.]+', '-', distribution.lower()))}(?![\w-])", text)
    ]
