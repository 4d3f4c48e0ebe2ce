"""What a graph says of its attempts holds on a real worker, what cannot be recorded, and turns of one conversation."""

from pathlib import Path

from app.principals.model import OWNER
from app.sessions import service
from app.sessions.model import NewSession
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


async def test_a_session_goes_on_from_the_end_of_another_one_and_is_rebuilt_without_it(
    database_url: str, redis_url: str, home: Path
) -> None:
    async with cluster_on(database_url, redis_url, home) as cluster:
        cluster.start_worker(UNKEPT)
        session_id = await cluster.create("turns", log=["begun"])
        for turn in (1, 2, 3):
            view = await cluster.ended(session_id)
            assert view.status == "succeeded", view.reason
            new = NewSession(task="go on", workflow="turns", input={"log": [f"said {turn}"]}, continues=session_id)
            session_id = (await service.create_session(cluster.backends, new, principal=OWNER))[0].session_id
        view = await cluster.ended(session_id)
    assert view.result["log"] == ["begun", "turn 1", "said 1", "turn 3", "said 2", "turn 5", "said 3", "turn 7"]
