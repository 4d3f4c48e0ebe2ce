"""A file that hangs, breaks or deceives a reader is left out and named; its session goes on, and so do all others."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.fuzz.trees.watching import watched
from tests.models.step import Log, step_of
from workers.agents.architect import architect
from workers.agents.research import research
from workers.children.removal import remove_tree
from workers.reading.files import MAX_DEPTH, shown_name
from workers.reading.process import ask
from workers.tools.conventions import Suite, read_conventions
from workers.tools.outcome import TestOutcome, read_report, read_unittest
from workers.workspace.checkout import Checkout
from workers.workspace.project import Limits
from workers.workspace.repository import Workspaces

HELD_UP_SECONDS = 2.0


def write(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Removed here: pytest does not come to the end of some."""
    yield write(tmp_path / "project", {"a.py": "import os\n"})
    remove_tree(tmp_path / "project")


async def taken_in(project: Path) -> Path:
    workspaces = Workspaces(project.parent / "workspaces", Limits(1000, 2**26), (project.parent,))
    workspace = await workspaces.open("session", path=str(project))
    return await workspace.checkout(workspace.initial, step=1, attempt=1)


def names_in(directory: Path) -> list[str]:
    return sorted(place.name for place in directory.iterdir())


async def remarks_on(project: Path) -> str:
    """What research and architect say in the summary."""
    worktree = await taken_in(project)
    settings = Settings(home=project.parent, research="rules", architect="rules")
    with step_of("research", worktree, Log(), settings):
        said: list[dict[str, Any]] = [dict(await research({})), dict(await architect({}))]
    return " | ".join(remark for state in said for remark in state["remarks"])


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("\n" * 102_400 + "x = 1\n", None),
        ("\n \t\n" * 100_000 + "import pytest\n", "pytest"),
        (" " * 500_000 + "\n" + "\x0b\n" * 100_000 + "class T: 'unittest'\n", "unittest"),
    ],
    ids=["newlines", "blank lines", "one long blank line"],
)
async def test_empty_lines_of_a_test_file_hold_nothing_up(project: Path, text: str, style: str | None) -> None:
    write(project, {"test_x.py": text})
    async with watched() as watch, asyncio.timeout(60):
        suite = (await read_conventions(project)).suite
    assert (suite and suite.style) == style
    assert watch.longest < HELD_UP_SECONDS


@pytest.mark.parametrize(
    "pattern", ["*a*a*a*a*b", "*?a*?a*?a*?a*?b", "**/a*/**/a*/**/a*/**/b"], ids=["stars", "with marks", "in a row"]
)
async def test_ignore_rules_of_many_stars_do_not_count(project: Path, pattern: str) -> None:
    write(project, {".gitignore": f"{pattern}\n*.log\n", "a" * 250: "", "x.log": "", ".git/HEAD": "ref: x\n"})
    async with watched() as watch, asyncio.timeout(60):
        worktree = await taken_in(project)
    assert names_in(worktree) == [".gitignore", "a.py", "a" * 250]
    assert Checkout.at(worktree).left_out().named == {
        ".gitignore": "1 of its rules do not count: they have too many stars"
    }
    assert watch.longest < HELD_UP_SECONDS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = " + "[" * 50_000, "it is nested too deep"),
        ("[project]\ndependencies = " + "{a=" * 20_000, "it is nested too deep"),
        ("project = 5\ntool = 'x'\n", "its [project] is no table"),
        ("x = " + "9" * 10_000, "Exceeds the limit"),
        (b"\xff\xfe[\0", "'utf-8' codec can't decode"),
        ("x = 1\n" * 10**6, "it has more than 1,048,576 bytes"),
    ],
    ids=["lists", "tables", "no tables", "a number", "bytes", "long"],
)
async def test_a_declaration_that_cannot_be_read(project: Path, text: str | bytes, problem: str) -> None:
    write(project, {"pyproject.toml": text, "ruff.toml": text})
    async with watched() as watch:
        (said,) = await ask("survey", {"worktree": str(project)})
        assert (await read_conventions(project)).agreement is None
    assert f"pyproject.toml cannot be read: {problem}" in said["problem"]
    assert said["python_files"] == 1
    assert watch.longest < HELD_UP_SECONDS


async def test_what_a_project_declares_is_cut_to_what_the_log_takes(project: Path) -> None:
    declared = f'requires-python = "\\u0000{">" * 400_000}"\ndependencies = ["{"d" * 400_000}", 5]\n'
    write(project, {"pyproject.toml": f"[project]\n{declared}[tool.black]\nline-length = 10{'0' * 300}\n"})
    remarks = await remarks_on(project)
    assert remarks.startswith("ruff refused the project's configuration and ran without it: ^^^^")
    assert len(remarks) < 1000


async def test_python_that_is_too_deep_and_names_that_deceive(project: Path) -> None:
    """Where ruff dies it is given names, and one that goes over two lines cannot be given."""
    deep = {"deep.py": "x = " + "-" * 100_000 + "1\n", "torn.py": "def f(:\nx = " + "not " * 100_000 + "1\n"}
    odd = {"null.py": "x = 1\0\n", "utf7.py": "# coding: utf-7\n+2AA-\n", "brackets.py": "x = " + "(" * 100_000}
    names = dict.fromkeys(("new\nline.py", "-rf.py", "--fix", "\u202egnp.py"), "import os\n")
    write(project, deep | odd | names)
    (project / "leaves").symlink_to("/etc/hostname")
    (project / "loop").symlink_to("loop")
    remarks = await remarks_on(project)
    assert "5 Python file(s) do not parse and are left alone: brackets.py (line 1: too many nested par" in remarks
    assert "1 link(s) lead out of the project and are not followed" in remarks
    assert "3 file(s) were left out, since ruff cannot work on them: deep.py; new\\nline.py; torn.py" in remarks


async def test_python_that_is_too_deep_where_it_cannot_be_named(project: Path) -> None:
    write(project, dict.fromkeys(("a\nb/deep.py", "c\rd.py", "e\r/f.py"), "x = " + "-" * 100_000 + "1\n"))
    remarks = await remarks_on(project)
    assert "3 file(s) were left out, since ruff cannot work on them: a\\nb/deep.py; c\\rd.py; e\\r/f.py" in remarks


async def test_links_that_git_refuses(project: Path) -> None:
    """It takes none by the name of `.gitmodules`, in whatever case, and none below such a name."""
    write(project, {"sub/.GitModules/a.py": "", ".gitmodules/sub/a.py": ""})
    for link in ("sub/.GitModules/to", ".gitmodules/sub/to", "link"):
        (project / link).symlink_to("a.py")
    worktree = await taken_in(project)
    taken = {str(file.relative_to(worktree)) for file in worktree.rglob("*") if not file.is_dir() or file.is_symlink()}
    assert taken == {"a.py", "link", "sub/.GitModules/a.py", ".gitmodules/sub/a.py"}
    (worktree / ".gitmodules/to").symlink_to("sub/a.py")  # as an agent may
    (worktree / "b.py").touch()
    assert Checkout.at(worktree).changed() == ["b.py"]


async def test_directories_in_a_row_and_long_paths(project: Path) -> None:
    here = os.open(project, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inside = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    long = project
    for _ in range(13):
        long = long / ("n" * 250)
        long.mkdir()
        (long / "x.py").touch()
    worktree = await taken_in(project)
    left_out = Checkout.at(worktree).left_out()
    assert list(left_out.named.values()) == [
        f"it lies below more than {MAX_DEPTH} directories",
        "its path is too long",
    ]
    assert left_out.count == 2


@pytest.mark.parametrize("rule", ["**/" * 300_000 + "x", "/**" * 300_000], ids=["before", "after"])
async def test_ignore_rules_of_which_git_dies(project: Path, rule: str) -> None:
    write(project, {".gitignore": rule, "sub/x.py": ""})
    worktree = await taken_in(project)
    write(worktree, {"a.py": "", "sub/new.py": ""})
    assert await asyncio.to_thread(Checkout.at(worktree).changed) == ["a.py", "sub/new.py"]


def of_git(project: Path) -> Path:
    return write(project, {".git/HEAD": "ref: refs/heads/main\n"}) / ".git"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("index", "endless"), ("index", "pipe"), ("commondir", "pipe"), ("info/exclude", "endless"), ("HEAD", "loop")],
)
async def test_odd_files_of_git_are_not_read(project: Path, name: str, kind: str) -> None:
    file = of_git(project) / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "endless":
            file.symlink_to("/dev/zero")
        case _:
            file.symlink_to(file.name)
    async with asyncio.timeout(60):
        worktree = await taken_in(project)
    assert names_in(worktree) == ["a.py"]


@pytest.mark.parametrize("content", [b"gitdir: \0", b"gitdir: .git", b"gitdir: " + b"x" * 10_000, b"\xff\n"])
async def test_a_git_file_that_leads_nowhere(project: Path, content: bytes) -> None:
    (project / ".git").write_bytes(content)
    assert names_in(await taken_in(project)) == ["a.py"]


async def test_an_entry_of_the_index_does_not_lead_out(project: Path) -> None:
    write(project.parent, {"x.py": "secret = 1\n"})
    names = [b"../x.py", b"/etc/hostname", b"a/../../x.py", b".git/HEAD", b"a.py"]
    entries = b"".join(
        b"\0" * 60 + len(name).to_bytes(2, "big") + name + b"\0" * (8 - (62 + len(name)) % 8) for name in names
    )
    content = b"DIRC" + (2).to_bytes(4, "big") + len(names).to_bytes(4, "big") + entries
    (of_git(project) / "index").write_bytes(content + b"\0" * 20)
    worktree = await taken_in(project)
    assert names_in(worktree) == ["a.py"]


ENTITIES = f'<!ENTITY a "{"x" * 10_000}"><!ENTITY b "{"&a;" * 10_000}">'


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (b"<testsuites><testcase", "unclosed token"),
        (b"", "no element found"),
        (f"<!DOCTYPE x [{ENTITIES}]><x>{'&b;' * 100}</x>".encode(), "limit on input amplification"),
        (b"<x>" + b" " * 65 * 2**20, "more than 67,108,864 bytes"),
        (b'<?xml version="1.0" encoding="nonsense"?><x/>', "unknown encoding"),
    ],
    ids=["broken", "empty", "entities", "long", "encoding"],
)
async def test_a_report_that_cannot_be_read_is_a_problem(tmp_path: Path, report: bytes, reason: str) -> None:
    write(tmp_path, {"report.xml": report})
    async with watched() as watch:
        outcome = await read_report(tmp_path, "report.xml")
    assert outcome.problem is not None and "their report cannot be read" in outcome.problem
    assert reason in outcome.problem
    assert watch.longest < HELD_UP_SECONDS


async def test_a_report_is_a_file_and_its_names_are_shown(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    (tmp_path / "link.xml").symlink_to("/etc/hostname")
    write(tmp_path, {"outside/report.xml": "<x/>", "room/a.py": ""})
    (tmp_path / "room" / "tmp").symlink_to("../outside")
    for name in ("pipe.xml", "link.xml", "missing.xml", "room/tmp/report.xml"):
        assert (await read_report(tmp_path, name)).problem
    write(tmp_path, {"report.xml": "<x><testcase name='a&#x9b;31m&#x202e;b'><failure/></testcase></x>"})
    assert await read_report(tmp_path, "report.xml") == TestOutcome(0, 1, 0, ("a\\x9b31m\\u202eb",))


def test_unittests_numbers_may_be_any() -> None:
    ran = f"\nRan {'9' * 5000} tests in 0.1s\n\n"
    assert read_unittest(f"{ran}OK\n") is None
    assert read_unittest(f"\nRan 9 tests in 0.1s\n\nFAILED (failures={'9' * 5000}, errors=x, skipped=1)\n") == (
        TestOutcome(8, 0, 0)
    )
    assert read_unittest("\nRan 1 test in 0.1s\n\nOK (" + "a" * 1_000_000 + ")\n") == TestOutcome(1, 0, 0)


async def test_a_file_that_cannot_be_looked_at_costs_no_other(project: Path) -> None:
    (project / "conftest.py").mkdir()
    os.mkfifo(project / "test_pipe.py")
    (project / "test_link.py").symlink_to("/dev/zero")
    write(project, {"test_a.py": "def test_a(): pass\n", "test_large.py": b"#" * 3 * 2**20})
    assert (await read_conventions(project)).suite == Suite("pytest", 2)


def test_names_that_deceive_are_written_out() -> None:
    assert shown_name("a\nb\x1b[31m\x9b\u202e\u2066\ufeff\udcff\0.py") == (
        "a\\nb\\x1b[31m\\x9b\\u202e\\u2066\\ufeff\\udcff\\0.py"
    )
    assert shown_name("日本 é.py 👨‍👩‍👧") == "日本 é.py 👨‍👩‍👧"
