"""The node of a claimed step: on what it runs, with which answers, and how long at most."""

import asyncio
from functools import partial

from app.errors import SnapshotVersionMismatch, StepTimeout
from app.sessions import history
from app.sessions.attempts import Claim
from app.unit_of_work import Backends
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NO_ANSWER, NodeInterrupted, World, run_node
from workers.graph.results import StepResult
from workers.steps.snapshots import Snapshots


async def run_claimed(
    backends: Backends, snapshots: Snapshots, workflow: LoadedWorkflow, claim: Claim, world: World
) -> StepResult | NodeInterrupted:
    """What the node raises comes out as it is. Raises StepTimeout."""
    snapshot = await snapshots.foldable(workflow, claim.session)
    time_limit = claim.step.time_limit
    try:
        async with asyncio.timeout(time_limit.total_seconds()) as limit:
            return await _run(backends, workflow, claim, snapshot, world)
    except TimeoutError:
        if limit.expired():
            raise StepTimeout(f"the step ran past its time limit of {time_limit}") from None
        raise


async def _run(
    backends: Backends, workflow: LoadedWorkflow, claim: Claim, snapshot: bytes, world: World
) -> StepResult | NodeInterrupted:
    """Goes on from where the attempt stood, or from the node's start with all answers where that cannot be read."""
    row = claim.step
    run = partial(run_node, workflow, snapshot, row.task_path, world=world)
    try:
        answer = NO_ANSWER if row.node_snapshot is None else backends.secrecy.resolved(row.answer)
        return await run(stands=row.node_snapshot, answer=answer)
    except SnapshotVersionMismatch:
        answers = await history.read_answers(backends, claim.session.session_id, row.step)
        return await run(answers=backends.secrecy.resolved(answers))
