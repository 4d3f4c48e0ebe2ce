"""What the pages show and name is there: their modules run, their commands and options exist, their links lead on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.graphs.driving import drive, plain
from tests.models.step import Log, step_of
from tests.page_faults import wrong_commands, wrong_json, wrong_links, wrong_names, wrong_python, wrong_variables
from tests.readmes import CLIENTS, PAGES, ROOT, Found, Page
from workers.graph.codec import readable
from workers.graph.loading import LoadedWorkflow, load_workflows


@dataclass(frozen=True)
class Run:
    """How a workflow on a page is run to its end, and what it ends with, as JSON for people."""

    input: dict[str, Any]
    output: dict[str, Any]
    answers: dict[str, list[Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


RUNS = {
    ("README.md", "article"): Run(
        {"topic": "signal boxes"},
        {"topic": "signal boxes", "text": "About signal boxes"},
        answers={"publish": [True]},
    ),
    ("workers/README.md", "review"): Run(
        {},
        {
            "to_read": ["a.py", "b.py"],
            "notes": [{"file": "a.py", "lines": 2}, {"file": "b.py", "lines": 1}],
            "verdict": "enough",
        },
        answers={"judge": [True]},
        files={"a.py": "import os\nimport sys\n", "b.py": "pass\n", "c.txt": "no Python\n"},
    ),
}
"""By page and name of the workflow."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_checked_page = pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != CLIENTS], ids=lambda page: page.name
)


def tell(page: Page, faults: Iterable[Found]) -> None:
    told = [f"{page.name}:{line}: {text}" for line, text in faults]
    assert not told, "\n" + "\n".join(told)


@pytest.fixture
def modules(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the modules that the page shows, from which they are imported."""
    before = set(sys.modules)
    for block in page.blocks("python"):
        if block.file:
            file = tmp_path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@every_checked_page
def test_python_compiles_and_its_imports_resolve(page: Page, modules: Path) -> None:
    tell(page, wrong_python(page))


def workflow_modules(page: Page) -> list[str]:
    """The names of the modules on the page that declare workflows."""
    return [
        block.file.removesuffix(".py").replace("/", ".")
        for block in page.blocks("python")
        if block.file and re.search(r"^WORKFLOWS = ", block.text, re.MULTILINE)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if workflow_modules(page)], ids=lambda page: page.name)
async def test_workflows_run_to_their_end(page: Page, modules: Path, tmp_path: Path) -> None:
    for name, workflow in load_workflows(workflow_modules(page)).served.items():
        assert (page.name, name) in RUNS, f"say in RUNS how {name} of {page.name} is run"
        await run_both_ways(workflow, RUNS[page.name, name], tmp_path / name)


async def run_both_ways(workflow: LoadedWorkflow, run: Run, worktree: Path) -> None:
    """Through the engine, and as plain LangGraph."""
    worktree.mkdir()
    for file, text in run.files.items():
        (worktree / file).write_text(text)
    with step_of("agent", worktree, Log(), Settings()) as log:
        ours = await drive(workflow, run.input, run.answers)
        assert readable(ours.output) == run.output
        theirs = await plain(workflow, run.input, run.answers)
        assert (ours.output, ours.deltas) == (theirs.output, theirs.deltas)
    assert log.reports


def test_every_workflow_that_is_run_stands_on_its_page() -> None:
    assert {page for page, _ in RUNS} == {page.name for page in PAGES if workflow_modules(page)}


def modules_of_tests(page: Page) -> list[str]:
    return [block.file for block in page.blocks("python") if block.file and "/test_" in block.file]


@pytest.mark.parametrize("page", [page for page in PAGES if modules_of_tests(page)], ids=lambda page: page.name)
def test_tests_pass(page: Page, modules: Path) -> None:
    path = os.pathsep.join([str(modules), str(ROOT)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(modules)]
    done = subprocess.run(
        [*command, *modules_of_tests(page)],
        cwd=modules,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stdout}{done.stderr}"


@every_checked_page
def test_commands_and_the_files_that_they_name_exist(page: Page) -> None:
    tell(page, wrong_commands(page))


@every_page
def test_what_stands_in_backticks_exists(page: Page) -> None:
    tell(page, wrong_names(page))


@every_page
def test_variables_are_settings(page: Page) -> None:
    tell(page, wrong_variables(page))


@every_page
def test_links_lead_to_what_there_is(page: Page) -> None:
    tell(page, wrong_links(page))


@every_checked_page
def test_json_is_json(page: Page) -> None:
    tell(page, wrong_json(page))


WRONG = """\
`workers/steps/no_such_file.py`, `app.errors.NoSuchError`, `stellwerk tail --backwards`, `STELLWERK_NO_SUCH_SETTING`
`@with_gateway` and `{}()`
[gone](no_such_page.md), [nowhere](#no-such-heading)

```sh
stellwerk fly SESSION > new.jsonl
stellwerk verify new.jsonl --hard
scripts/test tests/unit/test_fold.py::test_nothing \\
    tests/unit/test_gone.py && scripts/nothing
scripts/faults --only rain
```

```python
from app.errors import NoSuchError
```

```json
{"a": 1,
}
```
"""


def test_what_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    page = Page("README.md", tmp_path)
    nowhere = "_".join(("no", "such", "function"))  # or this source would have it
    page.file.write_text(WRONG.replace("{}", nowhere))
    assert [found.line for found in wrong_variables(page)] == [1]
    assert [(line, text.partition(";")[0]) for line, text in wrong_names(page)] == [
        (1, "there is no file workers/steps/no_such_file.py"),
        (1, "there is no app.errors.NoSuchError"),
        (1, "`stellwerk tail` has no option --backwards"),
        (2, f"no source has {nowhere}"),
    ]
    assert [line for line, _ in wrong_links(page)] == [3, 3]
    assert [(line, text.partition(";")[0]) for line, text in wrong_commands(page)] == [
        (6, "`stellwerk` has no command fly"),
        (7, "`stellwerk verify` has no option --hard"),
        (8, "tests/unit/test_fold.py has no test test_nothing"),
        (8, "there is no file tests/unit/test_gone.py"),
        (8, "there is no file scripts/nothing"),
        (10, "scripts/faults has no rain"),
    ]
    assert list(wrong_python(page)) == [(14, "app.errors has no NoSuchError")]
    assert [line for line, _ in wrong_json(page)] == [19]
