"""What the tests of models share; all of them are marked `models`."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.config import Settings
from tests.models.house import House, house_on
from tests.models.servers import ModelServer, model_server
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
def claude_cli() -> str:
    """Its path; skips where there is none, and where CI runs there is one."""
    found = find_claude(Settings())
    if found is None:
        give_up("the Claude CLI", "claude-agent-sdk")
    assert found is not None
    return found


def give_up(what: str, package: str) -> None:
    message = f"{what} is not installed; `scripts/test --models` installs {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
