"""Who acts: a principal, with the project that it belongs to and the scopes that it has. Pure."""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

import orjson

from app.errors import BadInput, MissingScope, NotFound
from app.events.read import StreamState, no_stream
from app.events.types import AnyStreamId

Scope = Literal["read", "submit", "operate", "audit", "admin"]
EVERY_SCOPE: frozenset[Scope] = frozenset(get_args(Scope))
DEPLOYMENT = "stellwerk"
"""The project of the deployment itself: its operators' stream tells what concerns no project. It has no keys."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_PROJECT = re.compile("[a-z0-9][a-z0-9_-]{0,62}")


class SignOuts(NamedTuple):
    """How often all browsers were signed out of the deployment, and of a project: a cookie names what it came after."""

    deployment: int
    project: int


@dataclass(frozen=True, slots=True)
class Principal:
    """The person or program that makes a request. `key_id` names its key; a `project` of None means every project."""

    key_id: str | None
    name: str
    project: str | None
    scopes: frozenset[Scope]
    stream_id: AnyStreamId | None = None
    """The only stream that a ticket lets its holder read; None: it is no ticket."""
    until: float | None = None
    """When the ticket ends, in seconds since 1970."""
    sign_outs: SignOuts | None = None
    """Those that had been when it signed in with a cookie; None: it shows none."""

    def sees(self, project: str) -> bool:
        """The one rule: what belongs to another project does not exist for it."""
        return self.project is None or self.project == project

    def require(self, *scopes: Scope) -> None:
        """Raises MissingScope unless it has one of them."""
        if self.scopes.isdisjoint(scopes):
            needed = " or ".join(scopes)
            has = ", ".join(sorted(self.scopes))
            raise MissingScope(f"{self.name!r} may not do this: it needs the scope {needed}, and has {has}")


OPERATORS: tuple[Scope, ...] = ("audit", "admin")
"""One of them reads the operators' stream of its project."""
OWNER = Principal(key_id=None, name="owner", project=None, scopes=EVERY_SCOPE)
"""Who shows the stack's own token."""


Outcome = Literal["done", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key, and the digest of what was asked with it."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str | None, *asked: Any) -> "Once | None":
        """None without a key. `asked` is all that tells two requests apart, as JSON has it."""
        if key is None:
            return None
        return cls(key, hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest())


@dataclass(slots=True)
class Control:
    """A control action: what a principal asks to be done, and what came of it. `action` is `session.cancel`, say.

    With `once` it is done at most once: `first` are the `details` of the first request with this key, which did it.
    """

    action: str
    principal: Principal
    target: str | None = None
    reason: str | None = None
    request_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "done"
    once: Once | None = None
    first: dict[str, Any] | None = None


class Denied(NamedTuple):
    """What was asked for, by a principal that may not, or from an address that showed nothing that counts."""

    project: str
    principal: str | None
    key_id: str | None
    address: str | None
    action: str
    status: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key as those see it who administer keys: everything but the key itself."""

    key_id: UUID
    name: str
    project: str
    scopes: list[Scope]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    successor: UUID | None
    in_force: bool

    @property
    def principal(self) -> Principal:
        return Principal(str(self.key_id), self.name, self.project, frozenset(self.scopes))


def check_readable(principal: Principal, state: StreamState) -> StreamState:
    """Returns the state. Raises NotFound for a stream that does not exist for this principal.

    An operators' stream, and that of heads, is there for `audit` and `admin` alone.
    """
    is_hidden = state.kind in {"operators", "heads"} and principal.scopes.isdisjoint(OPERATORS)
    is_other = principal.stream_id not in {None, state.stream_id}
    if is_hidden or is_other or not principal.sees(state.project):
        raise no_stream(state.stream_id)
    return state


def no_project(name: str) -> NotFound:
    """In the same words for a project that does not exist and for another one's."""
    return NotFound(f"there is no project {name!r}")


def check_name(name: str) -> str:
    """Returns the name. Raises BadInput where it cannot be a key's."""
    if not _NAME.fullmatch(name) or name == OWNER.name:
        raise BadInput(
            f"{name!r} cannot be a key's name: it has 1 to 100 of letters, digits, and . _ @ + -, begins with a letter"
            f" or digit, and is not {OWNER.name!r}"
        )
    return name


def check_project(name: str) -> str:
    """Returns the name. Raises BadInput where it cannot be a project's."""
    if not _PROJECT.fullmatch(name) or name == DEPLOYMENT:
        raise BadInput(
            f"{name!r} cannot be a project's name: it has 1 to 63 of a-z, 0-9, - and _, begins with a letter or digit,"
            f" and is not {DEPLOYMENT!r}"
        )
    return name
