"""A short run of the fault harness; `scripts/faults` does it in earnest."""

from pathlib import Path

import pytest

from tests.acceptance.faults.run import run

SECONDS = 25
FAULTS = [
    "worker_killed",
    "gateway_killed",
    "redis_killed_and_emptied",
    "postgres_killed",
    "postgres_cut_at_commit",
    "messages_dropped",
    "publishes_forged",
    "queues_littered",
    "disk_full",
    "readers_cut",
]


@pytest.mark.timeout(400)
async def test_nothing_is_lost(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = await run(SECONDS, seed=1, only=FAULTS, say=said.append)
    for name, text in outcome.logs.items():
        (tmp_path / name).write_text(text)
    assert len(outcome.recoveries) > 3, said
    assert not outcome.violations, f"{outcome.violations[:20]}; what was done: {said}; logs in {tmp_path}"
