-- Whom a stream belongs to, and of which workflow its session is. What there was belongs to the project default.
ALTER TABLE streams ADD COLUMN IF NOT EXISTS project TEXT DEFAULT 'default' NOT NULL;
COMMENT ON COLUMN streams.project IS 'whom it belongs to';
ALTER TABLE streams ADD COLUMN IF NOT EXISTS workflow_name TEXT;
COMMENT ON COLUMN streams.workflow_name IS 'what its session_event(created) says';
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS project TEXT DEFAULT 'default' NOT NULL;

CREATE TABLE IF NOT EXISTS keys (
    key_id UUID NOT NULL,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    digest BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    successor UUID,
    PRIMARY KEY (key_id)
);
COMMENT ON COLUMN keys.digest IS 'SHA-256 of the key, which is kept nowhere';
COMMENT ON COLUMN keys.expires_at IS 'null: never';
COMMENT ON COLUMN keys.successor IS 'the key that it was rotated to';
CREATE UNIQUE INDEX IF NOT EXISTS keys_digest ON keys (digest);
-- A name is taken until its key was revoked or rotated: it says who acted.
CREATE UNIQUE INDEX IF NOT EXISTS keys_name ON keys (project, name) WHERE revoked_at IS NULL AND successor IS NULL;
