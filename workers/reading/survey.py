"""What can be said about a project without running it."""

import ast
import os
import re
import sys
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workers.reading.files import NotRead, Walk, read_regular, reason, shown_name
from workers.reading.forked import Died, each

MAX_PARSED_BYTES = 2 * 1024 * 1024
MAX_DECLARED_BYTES = 1024 * 1024
SECONDS = 5.0
FILES_PER_PROGRESS = 250
MAX_LISTED = 50
MAX_IMPORTS = 1000
MAX_WORD = 100
"""Characters of a name or a version that a project gives."""
REQUIREMENT_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass
class Gathered:
    """What the files say together."""

    lines: int = 0
    imports: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    """Names that the project itself may define."""
    unparsable: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, path: str, said: Mapping[str, Any] | Died) -> None:
        self.own |= {part.removesuffix(".py") for part in path.split("/")}
        problem = said if isinstance(said, Died) else said.get("problem")
        if not isinstance(said, Died):
            self.lines += said["lines"]
            self.imports.update(said["imports"])
        if problem:
            self.unparsable += 1
            if len(self.named) < MAX_LISTED:
                self.named.append(f"{shown_name(path)[: MAX_LISTED * 4]} ({problem})")


def answer(request: Mapping[str, Any]) -> Iterator[Any]:
    """How far it is, from time to time; then the survey."""
    worktree: str = request["worktree"]
    walk = Walk(worktree)
    top = os.path.realpath(worktree)
    python: list[str] = []
    files = leaving = 0
    for found in walk:
        if found.is_link:
            leaving += not f"{os.path.realpath(f'{worktree}/{found.path}')}/".startswith(f"{top}/")
        elif found.is_regular:
            files += 1
            if found.name.endswith((".py", ".pyi")):
                python.append(found.path)
    gathered = Gathered()
    for number, (path, said) in enumerate(each(python, lambda path: source(f"{worktree}/{path}"), seconds=SECONDS)):
        if number % FILES_PER_PROGRESS == 0:
            yield {"progress": [number, len(python)]}
        gathered.add(path, said)
    _, declared = next(each([worktree], declarations, seconds=SECONDS))
    if isinstance(declared, Died):
        declared = {"problem": f"what the project declares: {declared}"}
    yield {
        "files": files,
        "python_files": len(python),
        "lines": gathered.lines,
        "requires_python": declared.get("requires_python"),
        "dependencies": declared.get("dependencies", [])[:MAX_LISTED],
        "imports": third_party(gathered.imports, gathered.own | {worktree.rpartition("/")[2]})[:MAX_IMPORTS],
        "unparsable": gathered.named,
        "unparsable_files": gathered.unparsable,
        "leaving_links": leaving,
        "problem": declared.get("problem"),
        "left_out": asdict(walk.left_out),
    }


def source(file: str) -> dict[str, Any]:
    """A Python file: its lines and what it imports (top-level names), or why it does not parse."""
    try:
        content = read_regular(file, limit=MAX_PARSED_BYTES)
    except NotRead as error:
        return {"lines": 0, "imports": [], "problem": str(error)}
    except OSError as error:
        return {"lines": 0, "imports": [], "problem": reason(error)}
    lines = content.count(b"\n")
    try:
        with warnings.catch_warnings(action="ignore"):
            imports = sorted(set(_imports(ast.parse(content))))
    except SyntaxError as error:
        return {"lines": lines, "imports": [], "problem": f"line {error.lineno}: {shown_name(error.msg[:MAX_WORD])}"}
    except RecursionError:
        return {"lines": lines, "imports": [], "problem": "it is nested too deep to be parsed"}
    except MemoryError:
        return {"lines": lines, "imports": [], "problem": "it takes too much memory to be parsed"}
    except ValueError as error:
        return {"lines": lines, "imports": [], "problem": shown_name(str(error)[:MAX_WORD])}
    return {"lines": lines, "imports": imports}


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0][:MAX_WORD] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0][:MAX_WORD]


def third_party(imported: set[str], own: set[str]) -> list[str]:
    """Imported names that are neither the standard library's nor the project's own."""
    return sorted(imported - own - sys.stdlib_module_names)


def declarations(worktree: str) -> dict[str, Any]:
    """What the project says about itself in pyproject.toml, else in requirements.txt."""
    try:
        project = _table(f"{worktree}/pyproject.toml").get("project", {})
    except (NotRead, OSError, ValueError, RecursionError, MemoryError) as error:
        return {"problem": f"pyproject.toml cannot be read: {_said(error)}"}
    if not isinstance(project, dict):
        return {"problem": "pyproject.toml cannot be read: its [project] is no table"}
    listed = project.get("dependencies")
    if not isinstance(listed, list):
        try:
            content = read_regular(f"{worktree}/requirements.txt", limit=MAX_DECLARED_BYTES)
        except (NotRead, OSError):
            content = b""
        listed = content.decode("utf-8", "replace").splitlines()
    names = (REQUIREMENT_NAME.match(line) for line in listed if isinstance(line, str))
    requires = project.get("requires-python")
    return {
        "requires_python": shown_name(requires[:MAX_WORD]) if isinstance(requires, str) and requires else None,
        "dependencies": [name[1][:MAX_WORD] for name in names if name],
    }


def _table(file: str) -> dict[str, Any]:
    """Empty for what is missing."""
    try:
        content = read_regular(file, limit=MAX_DECLARED_BYTES)
    except FileNotFoundError:
        return {}
    return tomllib.loads(content.decode("utf-8").removeprefix("\ufeff"))


def _said(error: BaseException) -> str:
    match error:
        case OSError():
            return reason(error)
        case RecursionError() | MemoryError():
            return "it is nested too deep, or too large"
        case _:
            return shown_name(str(error)[:MAX_WORD])
