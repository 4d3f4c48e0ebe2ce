"""What can be said about a project without running it."""

import ast
import re
import sys
import tomllib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.config import MIB
from workers.tools.files import project_files

MAX_PARSED_BYTES = 2 * MIB
REQUIREMENT_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Source:
    """A Python file: what it imports (top-level names), or why it does not parse."""

    path: str
    lines: int
    imports: frozenset[str] = frozenset()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What the project says about itself."""

    requires_python: str | None = None
    dependencies: tuple[str, ...] = ()
    problem: str | None = None


def python_files(worktree: Path) -> tuple[list[Path], int]:
    """The Python files, and the number of all files."""
    files = list(project_files(worktree))
    return [file for file in files if file.suffix in {".py", ".pyi"}], len(files)


def read_source(file: Path, worktree: Path) -> Source:
    path = file.relative_to(worktree).as_posix()
    content = file.read_bytes()
    lines = content.count(b"\n")
    if len(content) > MAX_PARSED_BYTES:
        return Source(path, lines, problem="too large to be parsed")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(content)
    except SyntaxError as error:
        return Source(path, lines, problem=f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Source(path, lines, problem=f"{type(error).__name__}: {error}")
    return Source(path, lines, frozenset(_imports(tree)))


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def third_party(sources: Iterable[Source], worktree: Path) -> list[str]:
    """Imported names that are neither the standard library's nor the project's own."""
    sources = list(sources)
    own = {part.removesuffix(".py") for source in sources for part in Path(source.path).parts}
    imported = {name for source in sources for name in source.imports}
    return sorted(imported - own - sys.stdlib_module_names - {worktree.name})


def read_declared(worktree: Path) -> Declared:
    """Reads them from pyproject.toml, else from requirements.txt."""
    pyproject, requirements = worktree / "pyproject.toml", worktree / "requirements.txt"
    project: dict[str, object] = {}
    if pyproject.is_file():
        try:
            project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
        except (ValueError, OSError) as error:
            return Declared(problem=f"pyproject.toml cannot be read: {error}")
    lines = project.get("dependencies")
    if not isinstance(lines, list):
        lines = requirements.read_text("utf-8", "replace").splitlines() if requirements.is_file() else []
    names = (REQUIREMENT_NAME.match(str(line)) for line in lines)
    requires = project.get("requires-python")
    return Declared(str(requires) if requires else None, tuple(name[1] for name in names if name))
