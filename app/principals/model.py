"""Who acts: a principal, with the project that it belongs to and the scopes that it has. Pure."""

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "submit", "operate", "audit", "admin"]
EVERY_SCOPE: frozenset[Scope] = frozenset(get_args(Scope))


@dataclass(frozen=True, slots=True)
class Principal:
    """The person or program that makes a request. `key_id` names its key; a `project` of None means every project."""

    key_id: str | None
    name: str
    project: str | None
    scopes: frozenset[Scope]


OWNER = Principal(key_id=None, name="owner", project=None, scopes=EVERY_SCOPE)
"""Who shows the stack's own token."""
