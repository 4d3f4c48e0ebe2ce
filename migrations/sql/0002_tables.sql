-- What a stream's last session_event (or batch_event) says; append_events sets it.
ALTER TABLE streams ADD COLUMN IF NOT EXISTS status TEXT;
COMMENT ON COLUMN streams.status IS 'what its last session_event or batch_event says';

CREATE TABLE IF NOT EXISTS workers (
    worker TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (worker)
);
COMMENT ON TABLE workers IS 'worker processes that have told that they live';
