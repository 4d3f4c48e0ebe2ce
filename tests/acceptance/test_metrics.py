"""What real gateways and workers show to Prometheus: everything that the page promises, and the right numbers."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster import Cluster, cluster_on, processes_naming
from tests.scraping import Scrape, promised, scrape
from tests.serving import BEARER, TOKEN

STEPS = "tests.graphs.steps"
METRICS_TOKEN = "the-metrics-token"
BY_TOKEN = {"Authorization": f"Bearer {METRICS_TOKEN}"}
PATIENCE_SECONDS = 60.0


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        running.environment |= {"STELLWERK_METRICS_PORT": "0", "STELLWERK_METRICS_TOKEN": METRICS_TOKEN}
        yield running


@pytest.fixture
async def gateway(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    """A process of its own: what the tests' process imports and counts would show here, too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = cluster.environment | {"STELLWERK_TOKEN": TOKEN, "STELLWERK_PORT": str(port)}
    with (cluster.directory / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "app.gateway", env=environment, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=BEARER) as client:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await answers(client):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def worker_metrics(cluster: Cluster, number: int) -> Scrape:
    """The port stands in the worker's log."""
    log = cluster.directory / f"worker-{number}.log"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (lines := [line for line in log.read_text().splitlines() if '"metrics are shown"' in line]):
            await asyncio.sleep(0.05)
    (line,) = lines
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{json.loads(line)['port']}") as client:
        assert (await client.get("/metrics")).status_code == 401
        return await scrape(client, headers=BY_TOKEN)


async def test_the_page_names_what_is_shown_and_nothing_else(
    cluster: Cluster, gateway: httpx.AsyncClient, tmp_path: Path
) -> None:
    cluster.start_worker(STEPS, STELLWERK_CONCURRENCY="1")
    await cluster.ended(await cluster.create("calls_model"))
    asks = await cluster.create("asks_oddly")
    await cluster.until(asks, lambda view: view.status == "waiting")
    patient = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(patient, lambda view: (tmp_path / "child").exists())
    waits = await cluster.create("quick")  # the worker's one thread is taken
    await cluster.until(waits, lambda view: view.steps)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := await scrape(gateway)).metrics.keys() < promised("gateway").keys():
            await asyncio.sleep(0.05)
    assert found.metrics == promised("gateway")
    of_worker = await worker_metrics(cluster, 0)
    assert of_worker.metrics == promised("worker")

    assert found.value("stellwerk_steps", status="queued", agent="quick") == 1
    assert found.value("stellwerk_steps", status="running", agent="patient") == 1
    assert found.value("stellwerk_steps", status="waiting", agent="asks_oddly") == 1
    assert found.value("stellwerk_approvals_waiting") == found.value("stellwerk_workers") == 1
    called = {"provider": "openai", "model": "a-model", "agent": "calls_model"}
    assert of_worker.value("stellwerk_model_calls_total", **called, outcome="answered") == 2
    assert of_worker.value("stellwerk_model_calls_total", **called, outcome="failed") == 1
    tool = {"tool": "search", "agent": "calls_model"}
    assert of_worker.value("stellwerk_tool_calls_total", **tool, outcome="answered") == 1
    assert of_worker.value("stellwerk_model_tokens_total", **called, direction="input") == 15
    assert of_worker.value("stellwerk_model_tokens_total", **called, direction="output") == 6
    assert of_worker.value("stellwerk_model_cost_dollars_total", **called) == 0.5
    assert of_worker.value("stellwerk_model_calls_of_unknown_cost_total", **called) == 1
    (tmp_path / "go").touch()
    for session_id in (patient, waits):
        assert (await cluster.ended(session_id)).status == "succeeded"
    of_worker = await worker_metrics(cluster, 0)
    assert of_worker.total("stellwerk_step_wait_seconds_count", agent="quick", queue="default") == 2
    assert of_worker.total("stellwerk_leases_lost_total") == 0


async def test_a_killed_worker_shows_in_what_the_others_count(
    cluster: Cluster, gateway: httpx.AsyncClient, tmp_path: Path
) -> None:
    workers = [cluster.start_worker(STEPS), cluster.start_worker(STEPS)]
    assert (await cluster.ended(await cluster.create("quick"))).status == "succeeded"
    assert (await cluster.ended(await cluster.create("wrong"))).status == "failed"
    patient = await cluster.create("patient", directory=str(tmp_path))
    await cluster.until(patient, lambda view: (tmp_path / "child").exists())
    started = next(e for e in await cluster.events(patient) if e.get("msg") == "started")
    (victim,) = [number for number, worker in enumerate(workers) if worker.pid == started["details"]["pid"]]
    survivor = 1 - victim
    before = await worker_metrics(cluster, survivor)
    assert before.value("stellwerk_leases_lost_total", agent="patient") == 0
    workers[victim].kill()
    await cluster.until(patient, lambda view: view.steps[-1].attempt == 2 and view.steps[-1].status == "running")
    after = await worker_metrics(cluster, survivor)
    assert after.value("stellwerk_leases_lost_total", agent="patient") == 1
    assert after.total("stellwerk_leases_lost_total") == after.value("stellwerk_rescues_total", kind="lost") == 1
    alone = [
        process for process in processes_naming("workers.process.alone") if workers[survivor].pid in pids_above(process)
    ]
    assert alone and not any(
        connection.status == psutil.CONN_LISTEN for process in alone for connection in process.net_connections()
    )
    (tmp_path / "go").touch()
    assert (await cluster.ended(patient)).status == "succeeded"
    found = await scrape(gateway)
    assert found.value("stellwerk_sessions", project="default", status="succeeded") == 2
    assert found.value("stellwerk_sessions", project="default", status="failed") == 1
    assert found.total("stellwerk_sessions") == 3
    assert found.total("stellwerk_steps") == 0


def pids_above(process: psutil.Process) -> set[int]:
    return {parent.pid for parent in process.parents()}
