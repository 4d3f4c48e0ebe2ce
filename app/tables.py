"""The tables. The SQL that writes `events` is the function append_events (migrations/sql)."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import UserDefinedType


class Xid8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


metadata = MetaData()
_now = text("clock_timestamp()")


def _timestamp(name: str, **options: object) -> "Column[object]":
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]  # passed on as they are


epochs = Table(
    "epochs",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("system_identifier", BigInteger, comment="the Postgres cluster that this epoch began on"),
    Column("reason", Text, nullable=False),
    _timestamp("began_at", nullable=False, server_default=_now),
    Column(
        "seal_key",
        LargeBinary,
        nullable=False,
        server_default=text("sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"),
        comment="what is published through Redis in this epoch is sealed with it",
    ),
    Column("timeline", Integer, comment="the timeline on which it began; null: not known"),
    Column(
        "xid",
        Xid8(),
        nullable=False,
        server_default=text("pg_current_xact_id()"),
        comment="the transaction that wrote this row; in a restored one it is not its xmin",
    ),
)

streams = Table(
    "streams",
    metadata,
    Column("stream_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("head", BigInteger, nullable=False, server_default=text("0")),
    Column("head_chain", LargeBinary, nullable=False, comment="chain at head; SHA-256 of the id at 0"),
    Column("earliest", BigInteger, nullable=False, server_default=text("1")),
    _timestamp("last_ts", nullable=False, server_default=text("'epoch'")),
    Column("closed", Boolean, nullable=False, server_default=text("false")),
    Column("status", Text, comment="what its last session_event or batch_event says"),
    Column("project", Text, nullable=False, server_default=text("'default'"), comment="whom it belongs to"),
    Column("workflow_name", Text, comment="what its session_event(created) says"),
    CheckConstraint("kind IN ('session', 'batch', 'operators', 'heads')", name="streams_kind"),
)

Index("streams_operators", streams.c.project, unique=True, postgresql_where=text("kind = 'operators'"))

events = Table(
    "events",
    metadata,
    Column("stream_id", Uuid, primary_key=True),  # no foreign key: append_events looks the stream up
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("xid", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("epoch", BigInteger, nullable=False),
    _timestamp("ts", nullable=False),
    Column("t", Text, nullable=False),
    Column("agent", Text),
    Column("phase", Text),
    Column("step", Integer),
    Column("attempt", Integer),
    Column("dedupe_key", Text),
    Column("data", JSON, nullable=False, comment="the exact text that readers get behind the envelope"),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    CheckConstraint("starts_with(data::text, '{\"t\":')", name="events_begin_with_t"),
    CheckConstraint("strpos(data::text, E'\\n') = 0", name="events_are_one_line"),
)
Index("events_position", events.c.epoch, events.c.xid, events.c.position)
Index(
    "events_dedupe_key",
    events.c.stream_id,
    events.c.dedupe_key,
    unique=True,
    postgresql_where=events.c.dedupe_key.is_not(None),
)

writers = Table(
    "writers",
    metadata,
    Column("writer", Uuid, primary_key=True, comment="one flusher of one process"),
    Column("call_no", BigInteger, nullable=False),
    Column("statuses", ARRAY(Text), nullable=False),
    Column("offsets", ARRAY(BigInteger), nullable=False),
    Column("timestamps", ARRAY(DateTime(timezone=True)), nullable=False),
    Column("details", ARRAY(Text), nullable=False),
    _timestamp("called_at", nullable=False, server_default=_now),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("stream_id", Uuid, ForeignKey("streams.stream_id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of content"),
    Column("media_type", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    _timestamp("created_at", nullable=False, server_default=_now),
)

workflows = Table(
    "workflows",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("langgraph_version", Text, nullable=False),
    Column("input_fields", ARRAY(Text), nullable=False, comment="where task and path may be merged in"),
    _timestamp("registered_at", nullable=False, server_default=_now),
    _timestamp("last_seen", nullable=False, server_default=_now),
)

workers = Table(
    "workers",
    metadata,
    Column("worker", Text, primary_key=True),
    _timestamp("started_at", nullable=False, server_default=_now),
    _timestamp("last_seen", nullable=False, server_default=_now),
    Column("served", ARRAY(Text), comment="names of workflows; null: a worker of the version before did not tell"),
    Column("refused", JSON, nullable=False, server_default=text("'[]'"), comment="workflow, module and reason of each"),
    Column(
        "secrets",
        JSON,
        nullable=False,
        server_default=text("'[]'"),
        comment="fingerprints of the secrets that gateways do not have",
    ),
    comment="worker processes that have told that they live",
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Uuid, ForeignKey("streams.stream_id"), primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("task", Text, nullable=False),
    Column("input", JSON, nullable=False),
    Column("path", Text),
    Column("repo", Text),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("options", JSON, nullable=False, server_default=text("'{}'")),
    Column("principal", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("workflow_version", Text, nullable=False),
    Column("langgraph_version", Text, nullable=False),
    Column("snapshot", LargeBinary, comment="cache of the fold; null: rebuild from the log"),
    Column("snapshot_version", Integer, nullable=False, server_default=text("0")),
    Column("folded_superstep", Integer, comment="last superstep whose results are folded; null: not begun"),
    Column("last_step", Integer, nullable=False, server_default=text("0")),
    Column("base_commit", Text, comment="where the steps of the open superstep start"),
    Column("result", JSON),
    Column("idempotency_key", Text),
    Column("request_digest", LargeBinary),
    _timestamp("created_at", nullable=False, server_default=_now),
    _timestamp("ended_at"),
    _timestamp("admitted_at", comment="null: waits for its turn"),
    _timestamp("advance_sent_at", comment="when advance_session was last sent"),
    Column("project", Text, nullable=False, server_default=text("'default'")),
    Column("context", JSON, nullable=False, server_default=text("'{}'")),
    Column("config", JSON, nullable=False, server_default=text("'{}'")),
    Column("continues", Uuid, comment="the session from whose final state it started"),
    Column("final_state", LargeBinary, comment="the state at its end, as the codec writes it"),
    Column("repo_credentials", LargeBinary, comment="encrypted; null: none, or the repository is cloned"),
    CheckConstraint(
        "status IN ('created', 'running', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled')",
        name="sessions_status",
    ),
)
Index("sessions_project", sessions.c.project, sessions.c.session_id)
Index("sessions_status", sessions.c.project, sessions.c.status)
Index(
    "sessions_project_idempotency_key",
    sessions.c.project,
    sessions.c.principal,
    sessions.c.idempotency_key,
    unique=True,
    postgresql_where=sessions.c.idempotency_key.is_not(None),
)
Index("sessions_open", sessions.c.session_id, postgresql_where=text("ended_at IS NULL AND admitted_at IS NOT NULL"))
Index(
    "sessions_backlog",
    sessions.c.priority.desc(),
    sessions.c.session_id,
    postgresql_where=text("ended_at IS NULL AND admitted_at IS NULL"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the key, which is kept nowhere"),
    _timestamp("created_at", nullable=False, server_default=_now),
    Column("created_by", Text, nullable=False),
    _timestamp("expires_at", comment="null: never"),
    _timestamp("revoked_at"),
    Column("successor", Uuid, comment="the key that it was rotated to"),
)
Index("keys_digest", keys.c.digest, unique=True)
Index(
    "keys_name",
    keys.c.project,
    keys.c.name,
    unique=True,
    postgresql_where=text("revoked_at IS NULL AND successor IS NULL"),
)

steps = Table(
    "steps",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.session_id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("superstep", Integer, nullable=False),
    Column("task_path", Text, nullable=False, comment="the LangGraph task that this step is"),
    Column("agent", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("lost", Integer, nullable=False, server_default=text("0"), comment="attempts lost with a worker"),
    Column("max_attempts", Integer, nullable=False),
    Column("time_limit_ms", BigInteger, nullable=False),
    Column("input", LargeBinary, comment="a Send's argument; null: read from the snapshot"),
    Column("lease_token", Uuid),
    _timestamp("lease_until"),
    _timestamp("available_at", nullable=False, server_default=_now),
    _timestamp("sent_at", comment="when run_step was last sent"),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("worker", Text),
    Column("interrupt_id", Text),
    Column("node_snapshot", LargeBinary, comment="a waiting node's own state"),
    Column("question", JSON, comment="what a waiting node asks"),
    Column("answer", JSON, comment="the last answer, as the codec writes it"),
    Column("update_data", JSON, comment="what the node returned, as the codec writes it"),
    Column("commit", Text, comment="the workspace commit of the succeeded attempt"),
    Column("error", Text),
    _timestamp("started_at"),
    _timestamp("ended_at"),
    Column("answer_schema", JSON, comment="JSON Schema of the answer; null: any will do"),
    Column("reporting_attempt", Integer, comment="the attempt that reports and report_bytes count for"),
    Column("reports", Integer, nullable=False, server_default=text("0"), comment="events that its step token appended"),
    Column("report_bytes", BigInteger, nullable=False, server_default=text("0"), comment="their size"),
    CheckConstraint(
        "status IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')", name="steps_status"
    ),
    CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="steps_running_has_lease"),
)
Index("steps_task", steps.c.session_id, steps.c.superstep, steps.c.task_path, unique=True)
Index("steps_queued", steps.c.available_at, postgresql_where=text("status = 'queued'"))
Index("steps_leases", steps.c.lease_until, postgresql_where=text("status = 'running'"))
Index("steps_waiting", steps.c.session_id, postgresql_where=text("status = 'waiting'"))

store_items = Table(
    "store_items",
    metadata,
    Column("project", Text, primary_key=True),
    # In collation C the namespaces below {a,b} are those from {a,b} to before {a,b\x01}.
    Column("namespace", ARRAY(Text(collation="C")), primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("value", JSON, nullable=False, comment="as the codec writes it"),
    Column("vectors", JSONB, comment="by field, where the store has an index; null: none"),
    Column("namespace_position", BigInteger, nullable=False, comment="position of the first item of its namespace"),
    Column("position", BigInteger, Identity(), nullable=False),
    _timestamp("created_at", nullable=False),
    _timestamp("updated_at", nullable=False),
    comment="what nodes put into the store that their graph was compiled with",
)
Index("store_items_order", store_items.c.project, store_items.c.namespace_position, store_items.c.position)

store_seeds = Table(
    "store_seeds",
    metadata,
    Column("project", Text, primary_key=True),
    Column("namespace", ARRAY(Text), primary_key=True),
    Column("key", Text, primary_key=True),
    comment="items that a module put into its store, and that the project was given",
)

cache_entries = Table(
    "cache_entries",
    metadata,
    Column("project", Text, primary_key=True),
    Column("workflow", Text, primary_key=True),
    Column("workflow_version", Text, primary_key=True),
    Column("namespace", ARRAY(Text), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("form", Text, nullable=False, comment="how content is to be read"),
    Column("content", LargeBinary, nullable=False),
    _timestamp("expires_at", nullable=False),
    comment="results that a CachePolicy lets nodes use again",
)
Index("cache_entries_expiry", cache_entries.c.expires_at)

sign_outs = Table(
    "sign_outs",
    metadata,
    Column("project", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    comment="how often all browsers of a project were signed out",
)
