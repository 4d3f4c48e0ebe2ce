"""What was denied, gathered by who asked for what in a minute, so that asking again and again does not fill the log."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple

import structlog
from starlette.requests import HTTPConnection

from app.cancelling import asked_to_end
from app.database import is_away
from app.errors import describe
from app.events.encoding import format_ts
from app.gateway.access import PRINCIPAL
from app.principals import facts
from app.principals.control import record_denials
from app.principals.model import DEPLOYMENT, Denied, Principal
from app.unit_of_work import Backends

logger = structlog.get_logger(__name__)

FLUSH_SECONDS = 60.0
MAX_KINDS = 500
"""So many different denials are told apart between two flushes; further ones are counted together."""
_OTHERS = Denied(project=DEPLOYMENT, principal=None, key_id=None, address=None, action="others", status=0)


class _Minute(NamedTuple):
    since: datetime
    denied: Denied


class Denials:
    """One for each process."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._counts = Counter[_Minute]()
        self._recording = asyncio.Lock()

    def count(self, request: HTTPConnection, status: int) -> None:
        """Counts an answer of 401, 403, 404 or 429."""
        principal: Principal | None = request.scope.get(PRINCIPAL)
        if principal is None:
            denied = Denied(DEPLOYMENT, None, None, _address(request), _action(request), status)
        elif principal.project is not None:
            denied = Denied(principal.project, principal.name, principal.key_id, None, _action(request), status)
        else:  # the stack's own token: what it does not find does not exist
            return
        self._add(_Minute(datetime.now(UTC).replace(second=0, microsecond=0), denied), 1)

    def _add(self, minute: _Minute, count: int) -> None:
        if minute not in self._counts and len(self._counts) >= MAX_KINDS:
            minute = minute._replace(denied=_OTHERS)
        self._counts[minute] += count

    async def run(self) -> None:
        """Records what was counted, every minute, until cancelled; then what is left."""
        try:
            while not asked_to_end():
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Records what was counted. It goes on when its caller is cancelled: what it has taken must not be lost."""
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._recording:
            await self._record()

    async def _record(self) -> None:
        counts, self._counts = self._counts, Counter[_Minute]()
        projects = {minute.denied.project for minute in counts}
        for project in sorted(projects):
            of_project = {minute: count for minute, count in counts.items() if minute.denied.project == project}
            events = [
                facts.denied(minute.denied, count=count, since=format_ts(minute.since))
                for minute, count in sorted(of_project.items(), key=str)
            ]
            try:
                await record_denials(self._backends, project, events)
            except Exception as error:
                unexpected = None if is_away(error) else error
                logger.warning("denials are recorded later", error=describe(error), exc_info=unexpected)
                for minute, count in of_project.items():
                    self._add(minute, count)


def _action(request: HTTPConnection) -> str:
    """The endpoint's template: what stands in an address is the client's, and never ends."""
    route = request.scope.get("route")
    path = getattr(route, "path", None) or "another address"
    return f"{request.scope['method']} {path}"


def _address(request: HTTPConnection) -> str | None:
    """Behind a proxy the server takes it from a header, where a client may have written anything."""
    try:
        return str(ip_address(request.client.host)) if request.client else None
    except ValueError:
        return None
