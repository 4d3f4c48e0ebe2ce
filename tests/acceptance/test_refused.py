"""A workflow or a module that is refused leaves the others served, and everyone is told which it is and why."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.database import transaction
from app.embedded.running import StackInfo, running_stack
from app.principals.model import OWNER
from app.sessions import approvals
from tests.answering import answer
from tests.cluster import Cluster, cluster_on
from tests.graphs import named
from tests.graphs.driving import loaded, plain
from tests.processes import wait_until
from tests.stacks import STELLWERK, stellwerk
from workers.process.rebuild import rebuild

GOOD = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from workers.workflow import Workflow

class State(TypedDict, total=False):
    n: int

graph = StateGraph(State)
graph.add_node("step", lambda state: {"n": 1})
graph.add_edge(START, "step")
WORKFLOWS = {"NAME": Workflow(graph=graph)}
"""
BAD = GOOD.replace("graph=graph", 'graph=graph.compile(interrupt_before=["step"])')
BROKEN = f"{GOOD}\ndef broken(:\n"
WHY = "it is compiled with interrupt_before=step; call interrupt() in the node instead"


def write(directory: Path, **modules: str) -> dict[str, str]:
    """Each declares one workflow of its own name; returns the variables under which workers find them."""
    for name, source in modules.items():
        (directory / f"of_{name}.py").write_text(source.replace("NAME", name))
    return {
        "STELLWERK_WORKFLOWS": ",".join(f"of_{name}" for name in modules),
        "PYTHONPATH": str(directory),
        "PYTHONDONTWRITEBYTECODE": "1",  # modules change within a second
    }


def submit(info: StackInfo, workflow: str) -> httpx.Response:
    bearer = {"Authorization": f"Bearer {info.token}"}
    return httpx.post(f"{info.url}/sessions", json={"task": "x", "workflow": workflow}, headers=bearer, timeout=20)


def ended(info: StackInfo, session_id: str) -> str:
    bearer = {"Authorization": f"Bearer {info.token}"}

    def status() -> str:
        told: str = httpx.get(f"{info.url}/sessions/{session_id}", headers=bearer).json()["status"]
        return told

    wait_until(lambda: status() in {"succeeded", "failed"}, what="the session ended", patience=60)
    return status()


class Up:
    """`stellwerk up` until the end of the block."""

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self._output = home / "output"
        environment = os.environ | {"STELLWERK_HOME": str(home)} | variables
        with self._output.open("wb") as output:
            self.process = subprocess.Popen([STELLWERK, "up"], env=environment, stdout=output, stderr=output)
        self._home = home

    @property
    def said(self) -> str:
        return self._output.read_text()

    def __enter__(self) -> StackInfo:
        wait_until(lambda: running_stack(self._home) or self.process.poll() is not None, what="up", patience=120)
        info = running_stack(self._home)
        assert info is not None, self.said
        wait_until(lambda: "ready" in self.said, what="it says so")
        return info

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=25)


def test_one_good_and_two_bad_modules_and_all_mended(home: Path, tmp_path: Path) -> None:
    variables = write(tmp_path, good=GOOD, bad=BAD, broken=BROKEN)
    up = Up(home, variables)
    with up as info:
        ready = up.said.index("ready; Ctrl-C stops")
        assert f"warning: the workflow 'bad' of the module of_bad is refused: {WHY}" in up.said[:ready]
        assert "warning: the module of_broken is refused: it cannot be imported: SyntaxError:" in up.said[:ready]

        open_to_all = httpx.get(f"{info.url}/readyz").json()
        assert (open_to_all["ready"], open_to_all["refused"], open_to_all["refusals"]) == (True, 2, None)
        told = httpx.get(f"{info.url}/readyz", headers={"Authorization": f"Bearer {info.token}"}).json()
        assert [(r["workflow"], r["module"]) for r in told["refusals"]] == [(None, "of_broken"), ("bad", "of_bad")]

        refused = submit(info, "bad")
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:stellwerk:problem:workflow-refused"
        assert refused.json()["detail"] == f"the workflow 'bad' is refused: {WHY} (module of_bad)"
        unknown = submit(info, "broken")
        assert unknown.status_code == 422 and "the module of_broken is refused: " in unknown.json()["detail"]
        created = submit(info, "good")
        assert created.status_code == 201
        assert ended(info, created.json()["session_id"]) == "succeeded"

        doctor = stellwerk(home, "doctor", variables=variables)
        assert doctor.returncode == 1
        assert "serve good" in doctor.stdout
        assert f"the workflow 'bad' of the module of_bad is refused: {WHY}" in " ".join(doctor.stdout.split())
        assert "has ended" not in up.said, "no worker was started twice"
    write(tmp_path, good=BAD, bad=GOOD, broken=GOOD)
    up = Up(home, variables)
    with up as info:
        assert "warning: the workflow 'good' of the module of_good is refused" in up.said
        assert submit(info, "good").status_code == 422, "though a worker served it a moment ago"
        for name in ("bad", "broken"):
            assert ended(info, submit(info, name).json()["session_id"]) == "succeeded"
    write(tmp_path, good=GOOD, bad=GOOD, broken=GOOD)
    up = Up(home, variables)
    with up as info:
        assert "refused" not in up.said
        assert httpx.get(f"{info.url}/readyz").json()["refused"] == 0
        assert submit(info, "good").status_code == 201


def test_a_new_stack_whose_every_workflow_is_refused_ends_and_says_why(home: Path, tmp_path: Path) -> None:
    up = Up(home, write(tmp_path, bad=BAD))
    assert up.process.wait(timeout=120) == 1
    assert "the workers serve nothing:" in up.said and WHY in up.said
    assert "ready" not in up.said
    with Up(home, write(tmp_path, bad=GOOD)) as info:
        assert ended(info, submit(info, "bad").json()["session_id"]) == "succeeded"


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(database_url, redis_url, tmp_path) as running:
        yield running


async def test_a_worker_that_serves_nothing_stays(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.start_worker("of_bad", **write(tmp_path, bad=BAD))
    log = tmp_path / "worker-0.log"
    wait_until(lambda: "this worker serves nothing" in log.read_text(), what="it says so", patience=60)
    assert "the workflow 'bad' of the module of_bad is refused" in log.read_text()
    async with transaction(cluster.backends.engine) as db:
        assert await db.scalar(text("SELECT served = '{}' AND refused ->> 0 LIKE '%of_bad%' FROM workers"))
    assert worker.poll() is None
    cluster.stop()
    assert worker.returncode == 0
    async with transaction(cluster.backends.engine) as db:
        assert await db.scalar(text("SELECT count(*) FROM workers")) == 0
    cluster.checked_modules.clear()


async def test_a_rebuild_says_why_a_session_is_skipped(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start_worker("of_later", **write(tmp_path, later=GOOD))
    session_id = await cluster.create("later")
    await cluster.ended(session_id)
    write(tmp_path, later=BAD)
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(
        workflows=("of_later",),
        database_url=cluster.environment["STELLWERK_DATABASE_URL"],
        redis_url=cluster.environment["STELLWERK_REDIS_URL"],
        home=tmp_path,
    )
    (rebuilt,) = [told async for told in rebuild(settings, [session_id], check=True)]
    assert (rebuilt.status, "of_later is refused" in rebuilt.detail) == ("skipped", True)
    cluster.checked_modules.clear()


async def test_nodes_that_an_enum_names(cluster: Cluster) -> None:
    cluster.start_worker("tests.graphs.named")
    session_id = await cluster.create("named", log=[])
    await cluster.until(session_id, lambda view: view.status == "waiting")
    (asked,) = await approvals.list_approvals(cluster.backends, session_id=session_id, principal=OWNER)
    await answer(cluster.backends, session_id, asked.step, answer="yes")
    view = await cluster.ended(session_id)
    assert view.status == "succeeded", view.reason
    expected = await plain(loaded(named.build()), {"log": []}, {"inner": ["yes"]})
    assert view.result == expected.output
    assert {step.agent for step in view.steps} == {"plan", "work", "check", "inner"}
    nodes = {event["node"] for event in await cluster.events(session_id) if event["t"] == "workflow_event"}
    assert nodes == {"plan", "work", "check", "inner"}
