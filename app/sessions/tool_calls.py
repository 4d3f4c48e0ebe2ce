"""Calls of tools: recording one. One function is one transaction."""

from app import metrics
from app.events import append
from app.progress import ToolCall
from app.sessions import facts
from app.sessions.attempts import Claim
from app.unit_of_work import Backends, unit_of_work


async def record_call(backends: Backends, claim: Claim, call: ToolCall, *, key: str) -> int:
    """Returns the event's offset; what is too large for an event becomes an artifact in the same transaction.

    May be repeated with the same `key` where the outcome of a commit is unknown.

    Raises LeaseLost, StreamClosed and InvalidEvent.
    """
    row = claim.step
    async with unit_of_work(backends, row.session_id) as work:
        arguments = await work.outsource(row.session_id, call.arguments, "shown", share=2)
        answer = await work.outsource(row.session_id, call.answer, "shown", share=2)
        event = facts.tool_called(call, row, arguments=arguments, answer=answer)
        entry = backends.item(row.session_id, event, lease=claim.lease, dedupe_key=key)
        recorded, is_new = await append.append_once(work.db, entry)
        if is_new:
            work.recorded.append(recorded)
    metrics.tool_called(call.name, call.agent, failed=call.error is not None)
    return recorded.offset
