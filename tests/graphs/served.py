"""The cases on real workers: sessions over HTTP, answers over HTTP, and what they left behind."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.events.types import TERMINAL
from app.progress import SessionId
from app.sessions import history
from tests.cluster import Cluster
from tests.graphs.cases import Case
from tests.graphs.comparing import Asked, Seen
from tests.graphs.effects import told
from tests.graphs.running import Replies, case_loaded, without_untracked
from workers.graph import fold
from workers.graph.codec import readable

MODULE = "tests.graphs.corpus"
PATIENCE_SECONDS = 90.0
AT_ONCE = 8


@dataclass
class Running:
    case: Case
    replies: Replies
    seen: Seen = field(default_factory=Seen)
    session_id: str = ""
    ended: bool = False


@dataclass
class Served:
    """A stack that serves the corpus: a cluster with its workers, and the gateway's client."""

    cluster: Cluster
    client: httpx.AsyncClient
    effects: Path

    async def run(self, plain: Mapping[str, tuple[Case, Seen]]) -> dict[str, Running]:
        """All at once, until each has ended; what has not by then tells that."""
        running = [Running(case, Replies(seen, readable)) for case, seen in plain.values()]
        for some in (running[at : at + AT_ONCE] for at in range(0, len(running), AT_ONCE)):
            await asyncio.gather(*map(self._create, some))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while waiting := {one.session_id: one for one in running if not one.ended}:
                    await self._look_at(waiting)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            for one in running:
                if not one.ended:
                    await self._give_up(one, "it has not ended")
        for one in running:
            if one.session_id:
                one.seen.effects = Counter(told(self.effects, one.session_id))
        return {one.case.name: one for one in running}

    async def _create(self, one: Running) -> None:
        case = one.case
        asked: dict[str, Any] = {"task": f"run {case.name}", "workflow": case.name, "input": dict(case.input)}
        asked |= {"context": case.context} if case.context is not None else {}
        asked |= {"config": dict(case.config)} if case.config else {}
        created = await self.client.post("/sessions", json=asked)
        if created.status_code == 201:
            one.session_id = created.json()["session_id"]
        else:
            one.ended, one.seen.error = True, f"{created.status_code}: {created.text}"

    async def _look_at(self, waiting: Mapping[str, Running]) -> None:
        page = (await self.client.get("/sessions", params={"limit": 1000})).json()
        for view in page["sessions"]:
            if (one := waiting.get(view["session_id"])) is None:
                continue
            if view["status"] in TERMINAL:
                await self._conclude(one)
            elif view["status"] == "waiting":
                await self._answer(one)

    async def _answer(self, one: Running) -> None:
        """All that is open, by step, as plain LangGraph is answered."""
        approvals = (await self.client.get("/approvals", params={"session_id": one.session_id})).json()["approvals"]
        for asked in sorted(approvals, key=lambda approval: approval["step"]):
            place = f"/sessions/{one.session_id}/approvals/{asked['step']}"
            for misfit in one.case.misfits:
                refused = await self.client.post(place, json={"answer": misfit, "question": asked["id"]})
                if refused.status_code != 422:
                    return await self._give_up(one, f"the answer {misfit!r} was taken: {refused.status_code}")
            try:
                answer = one.replies.to(asked["agent"], asked["question"])
            except LookupError as error:
                return await self._give_up(one, str(error))
            one.seen.questions.append(Asked(asked["agent"], asked["question"]))
            (await self.client.post(place, json={"answer": answer, "question": asked["id"]})).raise_for_status()
        return None

    async def _give_up(self, one: Running, why: str) -> None:
        one.ended, one.seen.error = True, why
        await self.client.post(f"/sessions/{one.session_id}/cancel", json={"reason": "no part of the case"})

    async def _conclude(self, one: Running) -> None:
        one.ended = True
        view = (await self.client.get(f"/sessions/{one.session_id}")).json()
        if view["status"] != "succeeded":
            one.seen.error = view["reason"] or view["status"]
            return
        session = await history.read_session(self.cluster.backends, SessionId(one.session_id))  # type: ignore[arg-type]  # as text
        assert session.snapshot is not None
        one.seen.state = without_untracked(one.case, fold.read(case_loaded(one.case), session.snapshot).values)
        one.seen.output = view["result"]


async def rebuilt(environment: Mapping[str, str], seed: int) -> str:
    """What `stellwerk rebuild --all --check` says in a process with that hash seed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        "rebuild",
        "--all",
        "--check",
        env={**os.environ, **environment, "STELLWERK_WORKFLOWS": MODULE, "PYTHONHASHSEED": str(seed)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")
