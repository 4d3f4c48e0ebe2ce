"""How often a real worker tries a node: as its graph says, and never again for what cannot be recorded."""

from pathlib import Path

from tests.cluster import cluster_on

UNKEPT = "tests.graphs.unkept"


async def test_what_cannot_be_recorded_is_shown_and_not_paid_for_again(
    database_url: str, redis_url: str, home: Path
) -> None:
    async with cluster_on(database_url, redis_url, home) as cluster:
        cluster.start_worker(UNKEPT)
        view = await cluster.ended(await cluster.create("unkept", log=[]))
        events = await cluster.events(view.session_id)
    assert view.status == "failed"
    assert "generator" in (view.reason or "")
    (step,) = view.steps
    assert (step.attempt, step.lost) == (1, 0)
    (failed,) = [event for event in events if event["t"] == "step_event" and event["status"] == "failed"]
    assert failed["returned"]["log"][0]["paid"] == 7


async def test_a_policy_of_the_graph_says_how_often(database_url: str, redis_url: str, home: Path) -> None:
    async with cluster_on(database_url, redis_url, home) as cluster:
        cluster.start_worker(UNKEPT)
        view = await cluster.ended(await cluster.create("flaky", log=[]))
    assert view.status == "succeeded"
    assert view.result["log"] == ["at last"]
    assert view.steps[0].attempt == 4
