"""The node of a claimed step: on what it runs, with which answers, and how long at most."""

import asyncio
from functools import partial
from typing import Any

import orjson

from app.errors import SnapshotVersionMismatch, StepTimeout
from app.sessions import history
from app.sessions.attempts import Claim
from app.unit_of_work import Backends
from workers.graph import fold
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NO_ANSWER, NodeInterrupted, NodeReturned, OnStream, run_node
from workers.steps.snapshots import Snapshots


async def run_claimed(
    backends: Backends, snapshots: Snapshots, workflow: LoadedWorkflow, claim: Claim, on_stream: OnStream
) -> NodeReturned | NodeInterrupted:
    """What the node raises comes out as it is. Raises StepTimeout."""
    node_input = await _input(snapshots, workflow, claim)
    time_limit = claim.step.time_limit
    try:
        async with asyncio.timeout(time_limit.total_seconds()) as limit:
            return await _run(backends, workflow, claim, node_input, on_stream)
    except TimeoutError:
        if limit.expired():
            raise StepTimeout(f"the step ran past its time limit of {time_limit}") from None
        raise


async def _input(snapshots: Snapshots, workflow: LoadedWorkflow, claim: Claim) -> Any:
    """A `Send`'s argument, or the node's part of the state."""
    if claim.step.input is not None:
        return workflow.codec.decode(orjson.loads(claim.step.input))
    snapshot = await snapshots.foldable(workflow, claim.session)
    most = snapshots.backends.settings.max_supersteps
    return fold.state_for(workflow, snapshot, claim.step.agent, max_supersteps=most)


async def _run(
    backends: Backends, workflow: LoadedWorkflow, claim: Claim, node_input: Any, on_stream: OnStream
) -> NodeReturned | NodeInterrupted:
    """Goes on from the node's own snapshot, or from its start with all answers where the snapshot cannot be read."""
    session_id, row = claim.session.session_id, claim.step
    run = partial(run_node, workflow, row.agent, node_input, on_stream=on_stream, session_id=str(session_id))
    try:
        answer = NO_ANSWER if row.node_snapshot is None else row.answer  # plain JSON, from outside
        return await run(snapshot=row.node_snapshot, answer=answer)
    except SnapshotVersionMismatch:
        return await run(answers=await history.read_answers(backends, session_id, row.step))
