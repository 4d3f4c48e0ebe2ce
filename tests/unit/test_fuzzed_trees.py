"""Made-up projects with hostile content are taken in, surveyed and planned for, and none holds up anyone else."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.config import MAX_EVENT_BYTES, Settings
from app.errors import BadPath
from app.events.encoding import encode
from app.progress import CurrentStep, Report
from app.sessions.facts import agent_event
from tests.fuzz.trees.planting import Project, plant
from tests.fuzz.trees.watching import watched
from tests.models.step import Log, step_of
from workers.agents.architect import architect
from workers.agents.research import research
from workers.children.removal import remove_tree
from workers.reading.files import shown_name
from workers.tools.conventions import read_conventions
from workers.workspace.checkout import Checkout
from workers.workspace.project import Limits
from workers.workspace.repository import Workspaces

TREES, MANY_TREES = 50, 2_000
AT_A_TIME = 4
HELD_UP_SECONDS = 2.0
TESTS_TIME_LIMIT = timedelta(seconds=20)
ROOMY = Limits(max_files=2_000, max_bytes=64 * 2**20)


@pytest.mark.timeout(7200)
async def test_no_project_fails_its_session_or_holds_up_another(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = MANY_TREES if request.config.getoption("long") else TREES
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(seed: int) -> str:
        async with places:
            return await went_through(tmp_path / str(seed), seed)

    async with watched() as watch:
        ends = await asyncio.gather(*map(one, range(trees)), return_exceptions=True)
    failed = [end for end in ends if isinstance(end, Exception)]
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {trees} projects", failed)
    with capsys.disabled():
        refused = [end for end in ends if end]
        print(f"\n{trees} projects, {len(refused)} refused; others waited {watch.longest:.2f} s at most")  # noqa: T201
    assert watch.longest < HELD_UP_SECONDS
    assert len(refused) < trees / 2


class Strict(Log):
    """It takes what the log takes, and no text that would move a terminal's cursor or hide what it is."""

    async def report(self, step: CurrentStep, report: Report) -> int:
        details = dict(report.details)
        event = agent_event(
            agent="agent",
            phase=report.phase,
            msg=report.message,
            progress=report.progress,
            total=report.total,
            details=details,
            step=1,
            attempt=1,
        )
        encode(event, max_bytes=MAX_EVENT_BYTES)
        for text in texts_of([report.message, details]):
            assert text == shown_name(text), repr(text)
        return await super().report(step, report)


def texts_of(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from texts_of([*value.keys(), *value.values()])
        case list() | tuple():
            for item in value:
                yield from texts_of(item)


async def went_through(home: Path, seed: int) -> str:
    """Why the project was refused, if it was."""
    home.mkdir()
    project = await asyncio.to_thread(plant, home / "project", seed)
    try:
        with project.restless() if seed % 5 == 0 else project.at_rest():
            return await _work_on(home, project, with_tools=seed % 10 == 1)
    except BaseException as error:
        error.add_note(f"project {seed}: {project.planted}")
        raise
    finally:
        await asyncio.to_thread(remove_tree, home)


async def _work_on(home: Path, project: Project, *, with_tools: bool) -> str:
    workspaces = Workspaces(home / "workspaces", ROOMY, (home,))
    try:
        workspace = await workspaces.open("session", path=str(project.directory))
    except BadPath as error:
        assert "holds more than" in str(error)
        return str(error)
    worktree = await workspace.checkout(workspace.initial, step=1, attempt=1)
    settings = Settings(
        home=home, supervisor="rules", research="rules", architect="rules", test_time_limit=TESTS_TIME_LIMIT
    )
    with step_of("research", worktree, Strict(), settings) as log:
        known: dict[str, Any] = dict(await research({}))
        assert known["survey"]["python_files"] or log.reports
        if with_tools:
            await architect({})
        else:
            await read_conventions(worktree)
    assert await asyncio.to_thread(Checkout.at(worktree).changed) == []
    return ""
