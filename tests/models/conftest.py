"""What the tests of models share; all of them are marked `models`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from app.config import Settings
from tests.models.house import House, house_on
from tests.models.servers import ModelServer, model_server
from tests.surroundings import optional_program
from workers.models.providers import find_claude

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.models)


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
async def house(database_url: str, redis_url: str, tmp_path: Path, models: ModelServer) -> AsyncIterator[House]:
    async with house_on(database_url, redis_url, tmp_path, models) as house:
        yield house


@pytest.fixture
def claude_cli(monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of the real one, which the settings name from here on; without this fixture there is none."""
    found = find_claude(Settings(claude_command=optional_program("claude")))
    if found is None:
        give_up("the Claude CLI", "claude-agent-sdk")
    monkeypatch.setenv("STELLWERK_CLAUDE_COMMAND", found)
    return found


def give_up(what: str, package: str) -> NoReturn:
    pytest.skip(f"{what} is not installed; `scripts/test --models` installs {package}")
