"""What a session came to, and what to do with it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.cli.console import print_text
from app.terminal import clean


@dataclass(frozen=True, slots=True)
class Top:
    """Where a patch is applied: the top of the project's repository, or the project itself where there is none."""

    directory: Path
    is_repository: bool


def top_of(project: Path) -> Top:
    """Returns the top as the workspace saw it when the project was read. Raises BadPath for what is no directory."""
    # Imported here: the other commands need nothing of the workers.
    from workers.workspace.project import find_source  # noqa: PLC0415

    source = find_source(str(project.absolute()), (Path("/"),))
    return Top(source.top, source.gitdir is not None)


def print_result(closing: Mapping[str, Any], project: Path | None) -> None:
    """Prints the result of a closing event; `project` is where its patch belongs."""
    result = closing.get("result")
    if not isinstance(result, dict):
        return
    print_text("")
    if "summary" in result:
        print_text(clean(result["summary"]))
        _print_change("findings", result, "findings_before", "findings_after")
        _print_change("tests", result, "tests_before", "tests_after")
    else:
        print_text(orjson.dumps(result).decode())
    if "patch" in result:
        _print_patch(result, project)


def _print_change(name: str, result: Mapping[str, Any], before: str, after: str) -> None:
    if before in result:
        _print_field(name, f"{_counts(result[before])} → {_counts(result.get(after))}")


def _print_patch(result: Mapping[str, Any], project: Path | None) -> None:
    if result["patch"] is None:
        _print_field("patch", "none: nothing was changed")
        return
    apply, fetch = ["git"], ["git", "fetch"]
    if project is not None and project.is_dir():  # a worker elsewhere may have seen one that we do not
        top = top_of(project)
        where = ["-C", str(top.directory)]
        apply += where
        fetch = ["git", *where, "fetch"] if top.is_repository else []
    _print_field("branch", result["branch"])
    _print_field("patch", result["patch"])
    _print_field("apply", shlex.join([*apply, "apply", result["patch"]]))
    if fetch:  # into a repository; a plain directory has nowhere to put a branch
        _print_field("fetch", shlex.join([*fetch, result["workspace"], result["branch"]]))


def _print_field(name: str, value: object) -> None:
    print_text(f"{name:<8} {clean(value)}")


def _counts(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return "not run" if value is None else str(value)
