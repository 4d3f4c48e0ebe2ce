"""Recording what came of an attempt: its node's result, or its question.

The work is done and paid for: a database that restarts just now must not cost it. What cannot be recorded is a
failure of the attempt, told as what it is, with what the node returned beside it.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from app.database import is_away
from app.errors import LeaseLost, StreamClosed
from app.sessions import attempts
from app.sessions.attempts import Claim
from app.sessions.supersteps import Owed
from app.unit_of_work import Backends
from workers.graph import results
from workers.graph.codec import readable
from workers.graph.loading import LoadedWorkflow
from workers.graph.node_run import NodeInterrupted
from workers.graph.results import StepResult
from workers.steps.failures import NextTry, is_retryable, patiently
from workers.steps.surroundings import AttemptWorkspace


class Unrecordable(Exception):
    """The log cannot hold what the node returned, and another attempt would pay for the same."""

    def __init__(self, cause: Exception, shown: Any) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.shown = shown
        self.next_try = NextTry(is_retryable(cause))  # a full disk may pass


async def record(
    backends: Backends,
    workflow: LoadedWorkflow,
    claim: Claim,
    outcome: StepResult | NodeInterrupted,
    workspace: AttemptWorkspace,
) -> Owed | None:
    """Returns what is to be folded, if the superstep is complete. Raises LeaseLost, StreamClosed, Unrecordable."""
    try:
        return await patiently(await _recording(backends, workflow, claim, outcome, workspace))
    except (LeaseLost, StreamClosed):
        raise
    except Exception as error:
        if is_away(error):
            raise
        shown = outcome.returned if isinstance(outcome, StepResult) else outcome.question
        raise Unrecordable(error, readable(shown)) from error


async def _recording(
    backends: Backends,
    workflow: LoadedWorkflow,
    claim: Claim,
    outcome: StepResult | NodeInterrupted,
    workspace: AttemptWorkspace,
) -> Callable[[], Awaitable[Owed | None]]:
    match outcome:
        case StepResult():
            update = results.encode(workflow.codec, outcome)
            commit = await workspace.commit()
            return partial(attempts.complete_step, backends, claim, update, commit=commit)
        case NodeInterrupted():
            return partial(
                attempts.wait_step,
                backends,
                claim,
                question=readable(outcome.question),
                interrupt_id=outcome.interrupt_id,
                node_snapshot=outcome.snapshot,
                answer_schema=outcome.response_schema,
            )
