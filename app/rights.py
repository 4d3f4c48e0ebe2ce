"""What the application's role may do with each object of the schema: declared here, and nowhere else. Pure.

History is what is never written but through functions that run with their owner's rights (DOOR): they look at what
they are given, append, and change nothing that stands. Of a row that is partly history the other columns are named.
`app/roles.py` grants this after each migration; a test compares it with what the schema has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TableRights:
    """What the role may do with a table by statements of its own."""

    select: bool = True
    insert: tuple[str, ...] = ()
    """The columns that a new row may be given; those that are not named have their defaults."""
    update: tuple[str, ...] = ()
    delete: bool = False


class Function(Enum):
    """Who may call a function, and with whose rights it runs."""

    DOOR = "the role may call it, and it runs with its owner's rights"
    PLAIN = "the role may call it, and it runs with its caller's rights"
    INNER = "only functions of the schema, and its owner, call it"


_NEW_SESSION = (
    *("session_id", "status", "task", "input", "path", "repo", "priority", "options", "principal", "project"),
    *("workflow", "workflow_version", "langgraph_version", "idempotency_key", "request_digest"),
    *("context", "config", "continues", "base_commit", "repo_credentials"),
)
_ENTRY = ("project", "workflow", "workflow_version", "namespace", "key", "form", "content", "expires_at")

TABLES: Mapping[str, TableRights] = MappingProxyType(
    {
        "alembic_version": TableRights(),
        # --- history
        "events": TableRights(),
        "streams": TableRights(),
        "epochs": TableRights(),
        "artifacts": TableRights(),
        "writers": TableRights(select=False),  # who knows a writer's id could answer its next call
        # --- caches of history, what is to be done, leases
        "sessions": TableRights(
            insert=_NEW_SESSION,
            update=(
                *("status", "reason", "ended_at", "result", "final_state", "snapshot"),
                *("admitted_at", "advance_sent_at", "repo_credentials"),
            ),
        ),
        "steps": TableRights(
            update=(
                *("status", "attempt", "failures", "lost", "lease_token", "lease_until", "available_at", "sent_at"),
                *("sends", "interrupt_id", "node_snapshot", "question", "answer", "answer_schema", "error"),
                *("ended_at", "reporting_attempt", "reports", "report_bytes"),
            )
        ),
        # --- who may do what: a key is never another one's afterwards
        "keys": TableRights(
            insert=("key_id", "name", "project", "scopes", "digest", "created_by", "expires_at"),
            update=("expires_at", "revoked_at", "successor"),
        ),
        "sign_outs": TableRights(insert=("project", "count"), update=("count",)),
        # --- what workers tell of themselves
        "workflows": TableRights(
            insert=("name", "version", "langgraph_version", "input_fields"),
            update=("langgraph_version", "input_fields", "last_seen"),
        ),
        "workers": TableRights(
            insert=("worker", "served", "refused", "secrets"),
            update=("started_at", "last_seen", "served", "refused", "secrets"),
            delete=True,
        ),
        # --- what graphs keep beside their state
        "store_items": TableRights(
            insert=(
                *("project", "namespace", "key", "value", "vectors", "position", "namespace_position"),
                *("created_at", "updated_at"),
            ),
            update=("value", "vectors", "created_at", "updated_at"),
            delete=True,
        ),
        "store_seeds": TableRights(insert=("project", "namespace", "key")),
        "cache_entries": TableRights(insert=_ENTRY, update=("form", "content", "expires_at"), delete=True),
    }
)

SEQUENCES: Mapping[str, bool] = MappingProxyType({"events_position_seq": False, "store_items_position_seq": True})
"""Says of each whether the role may take its next number."""

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "append_events": Function.DOOR,
        "append_all": Function.INNER,
        "claim_step": Function.DOOR,
        "complete_step": Function.DOOR,
        "settle_superstep": Function.DOOR,
        "commit_fold": Function.DOOR,
        "create_stream": Function.DOOR,
        "reopen_stream": Function.DOOR,
        "put_artifact": Function.DOOR,
        "present_epoch": Function.DOOR,
        "observe_cluster": Function.DOOR,
        "begin_epoch": Function.INNER,
        "stream_lock_key": Function.PLAIN,  # it reads nothing, and is a part of the statement that calls it
    }
)
