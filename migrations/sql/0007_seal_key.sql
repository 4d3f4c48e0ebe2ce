-- A key for each epoch, which no client sees: what is published through Redis carries a MAC by it.
ALTER TABLE epochs ADD COLUMN IF NOT EXISTS seal_key BYTEA NOT NULL
    DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
COMMENT ON COLUMN epochs.seal_key IS 'what is published through Redis in this epoch is sealed with it';
