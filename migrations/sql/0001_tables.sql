-- fillfactor below 100 leaves room for HOT updates of the rows that change all the time. Their dead versions are
-- taken away after a few hundred updates, not after a fifth of the table: they lie where every step looks.

CREATE TABLE epochs (
    epoch INTEGER NOT NULL,
    system_identifier BIGINT,
    reason TEXT NOT NULL,
    began_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (epoch)
);
COMMENT ON COLUMN epochs.system_identifier IS 'the Postgres cluster that this epoch began on';

CREATE TABLE events (
    stream_id UUID NOT NULL,
    "offset" BIGINT NOT NULL,
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    epoch INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    t TEXT NOT NULL,
    agent TEXT,
    phase TEXT,
    step INTEGER,
    attempt INTEGER,
    dedupe_key TEXT,
    data JSON NOT NULL,
    salt BYTEA NOT NULL,
    digest BYTEA NOT NULL,
    chain BYTEA NOT NULL,
    PRIMARY KEY (stream_id, "offset"),
    CONSTRAINT events_begin_with_t CHECK (starts_with(data::text, '{"t":')),
    CONSTRAINT events_are_one_line CHECK (strpos(data::text, E'\n') = 0)
);
COMMENT ON COLUMN events.data IS 'the exact text that readers get behind the envelope';
CREATE UNIQUE INDEX events_dedupe_key ON events (stream_id, dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX events_position ON events (epoch, xid, position);

CREATE TABLE streams (
    stream_id UUID NOT NULL,
    kind TEXT NOT NULL,
    head BIGINT DEFAULT 0 NOT NULL,
    head_chain BYTEA NOT NULL,
    earliest BIGINT DEFAULT 1 NOT NULL,
    last_ts TIMESTAMP WITH TIME ZONE DEFAULT 'epoch' NOT NULL,
    closed BOOLEAN DEFAULT false NOT NULL,
    PRIMARY KEY (stream_id),
    CONSTRAINT streams_kind CHECK (kind IN ('session', 'batch', 'operators'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN streams.head_chain IS 'chain at head; SHA-256 of the id at 0';

CREATE TABLE workflows (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    langgraph_version TEXT NOT NULL,
    input_fields TEXT[] NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (name, version)
);
COMMENT ON COLUMN workflows.input_fields IS 'where task and path may be merged in';

CREATE TABLE writers (
    writer UUID NOT NULL,
    call_no BIGINT NOT NULL,
    statuses TEXT[] NOT NULL,
    offsets BIGINT[] NOT NULL,
    timestamps TIMESTAMP WITH TIME ZONE[] NOT NULL,
    details TEXT[] NOT NULL,
    called_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (writer)
);
COMMENT ON COLUMN writers.writer IS 'one flusher of one process';

CREATE TABLE artifacts (
    stream_id UUID NOT NULL,
    digest BYTEA NOT NULL,
    media_type TEXT NOT NULL,
    content BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (stream_id, digest),
    FOREIGN KEY (stream_id) REFERENCES streams (stream_id)
);
COMMENT ON COLUMN artifacts.digest IS 'SHA-256 of content';

CREATE TABLE sessions (
    session_id UUID NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    task TEXT NOT NULL,
    input JSON NOT NULL,
    path TEXT,
    repo TEXT,
    priority SMALLINT DEFAULT 0 NOT NULL,
    options JSON DEFAULT '{}' NOT NULL,
    principal TEXT NOT NULL,
    workflow TEXT NOT NULL,
    workflow_version TEXT NOT NULL,
    langgraph_version TEXT NOT NULL,
    snapshot BYTEA,
    snapshot_version INTEGER DEFAULT 0 NOT NULL,
    folded_superstep INTEGER,
    last_step INTEGER DEFAULT 0 NOT NULL,
    base_commit TEXT,
    result JSON,
    idempotency_key TEXT,
    request_digest BYTEA,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    admitted_at TIMESTAMP WITH TIME ZONE,
    advance_sent_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (session_id),
    CONSTRAINT sessions_status CHECK (status IN ('created', 'running', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled')),
    FOREIGN KEY (session_id) REFERENCES streams (stream_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN sessions.snapshot IS 'cache of the fold; null: rebuild from the log';
COMMENT ON COLUMN sessions.folded_superstep IS 'last superstep whose results are folded; null: not begun';
COMMENT ON COLUMN sessions.base_commit IS 'where the steps of the open superstep start';
COMMENT ON COLUMN sessions.admitted_at IS 'null: waits for its turn';
COMMENT ON COLUMN sessions.advance_sent_at IS 'when advance_session was last sent';
CREATE UNIQUE INDEX sessions_idempotency_key ON sessions (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX sessions_backlog ON sessions (priority DESC, session_id) WHERE ended_at IS NULL AND admitted_at IS NULL;
CREATE INDEX sessions_open ON sessions (session_id) WHERE ended_at IS NULL AND admitted_at IS NOT NULL;

CREATE TABLE steps (
    session_id UUID NOT NULL,
    step INTEGER NOT NULL,
    superstep INTEGER NOT NULL,
    task_path TEXT NOT NULL,
    agent TEXT NOT NULL,
    queue TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER DEFAULT 1 NOT NULL,
    failures INTEGER DEFAULT 0 NOT NULL,
    lost INTEGER DEFAULT 0 NOT NULL,
    max_attempts INTEGER NOT NULL,
    time_limit_ms BIGINT NOT NULL,
    input BYTEA,
    lease_token UUID,
    lease_until TIMESTAMP WITH TIME ZONE,
    available_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    sends INTEGER DEFAULT 0 NOT NULL,
    worker TEXT,
    interrupt_id TEXT,
    node_snapshot BYTEA,
    question JSON,
    answer JSON,
    update_data JSON,
    commit TEXT,
    error TEXT,
    started_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (session_id, step),
    CONSTRAINT steps_status CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT steps_running_has_lease CHECK ((status = 'running') = (lease_token IS NOT NULL)),
    FOREIGN KEY (session_id) REFERENCES sessions (session_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN steps.task_path IS 'the LangGraph task that this step is';
COMMENT ON COLUMN steps.lost IS 'attempts lost with a worker';
COMMENT ON COLUMN steps.input IS 'a Send''s argument; null: read from the snapshot';
COMMENT ON COLUMN steps.sent_at IS 'when run_step was last sent';
COMMENT ON COLUMN steps.node_snapshot IS 'a waiting node''s own state';
COMMENT ON COLUMN steps.question IS 'what a waiting node asks';
COMMENT ON COLUMN steps.answer IS 'the last answer, as the codec writes it';
COMMENT ON COLUMN steps.update_data IS 'what the node returned, as the codec writes it';
COMMENT ON COLUMN steps.commit IS 'the workspace commit of the succeeded attempt';
CREATE INDEX steps_leases ON steps (lease_until) WHERE status = 'running';
CREATE INDEX steps_queued ON steps (available_at) WHERE status = 'queued';
CREATE UNIQUE INDEX steps_task ON steps (session_id, superstep, task_path);
CREATE INDEX steps_waiting ON steps (session_id) WHERE status = 'waiting';

INSERT INTO epochs (epoch, system_identifier, reason)
SELECT 1, system_identifier, 'the beginning' FROM pg_control_system();
