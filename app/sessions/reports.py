"""Reports from outside of a worker, by an attempt's step token. One function is one transaction."""

from app.database import transaction
from app.errors import BadInput, EventTooLarge, LeaseLost, TooMuchReported
from app.events import append
from app.progress import Report
from app.sessions import facts, report_repository
from app.sessions.knowing import FRESH_SECONDS, learn_secrets
from app.sessions.model import StepToken
from app.unit_of_work import Backends, UnitOfWork, unit_of_work


async def may_report(backends: Backends, token: StepToken) -> bool:
    """Says whether the token holds its step now."""
    async with transaction(backends.engine) as db:
        return await report_repository.agent_of(db, token) == token.agent


async def append_report(backends: Backends, token: StepToken, report: Report, *, dedupe_key: str | None = None) -> int:
    """Appends what a program says that a step has started; returns the event's offset.

    Raises LeaseLost in the same words for every token that does not hold a step now: a made-up one learns nothing.
    Raises BadInput for another agent's name, EventTooLarge and TooMuchReported.
    """
    async with unit_of_work(backends) as work:  # the stream's lock is taken by the append: not for any token
        if await report_repository.agent_of(work.db, token) != token.agent:
            raise LeaseLost
        if report.agent != token.agent:
            raise BadInput(f"a step token speaks for its own agent, {token.agent!r}; leave `agent` out")
        await learn_secrets(backends, work.db, fresh_seconds=FRESH_SECONDS)
        event = facts.agent_event(
            agent=token.agent,
            phase=report.phase,
            msg=report.message,
            progress=report.progress,
            total=report.total,
            details=report.details,
            step=token.step,
            attempt=token.attempt,
            by_token=True,
        )
        entry = backends.item(token.session_id, event, lease=token.lease, dedupe_key=dedupe_key)
        size, most = len(entry.data.encode()), backends.settings.max_report_bytes
        if size > most:
            raise EventTooLarge(
                f"the event has {size} bytes; by a step token it may have {most} (STELLWERK_MAX_REPORT_BYTES)"
            )
        recorded, is_new = await append.append_once(work.db, entry)
        if is_new:
            work.recorded.append(recorded)
            await _count(work, token, size)
        return recorded.offset


async def _count(work: UnitOfWork, token: StepToken, size: int) -> None:
    settings = work.backends.settings
    counted = await report_repository.count_report(work.db, token, size)
    if counted.reports > settings.max_reports:
        raise TooMuchReported(
            f"this attempt has reported {settings.max_reports} times by its step token (STELLWERK_MAX_REPORTS);"
            " it may go on, and report no more"
        )
    if counted.size > settings.max_reports_bytes:
        raise TooMuchReported(
            f"this attempt has reported {settings.max_reports_bytes} bytes by its step token"
            " (STELLWERK_MAX_REPORTS_BYTES); it may go on, and report no more"
        )
