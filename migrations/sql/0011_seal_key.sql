-- A key for each epoch, which no client sees: what is published through Redis carries a MAC by it.
ALTER TABLE epochs ADD COLUMN IF NOT EXISTS seal_key BYTEA;
-- Of a row that a dump brought, it stays to be seen that it was not written here.
UPDATE epochs SET seal_key = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
                  xid = CASE WHEN xmin = xid(xid) THEN pg_current_xact_id() ELSE xid END;
ALTER TABLE epochs ALTER COLUMN seal_key SET NOT NULL,
    ALTER COLUMN seal_key SET DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
COMMENT ON COLUMN epochs.seal_key IS 'what is published through Redis in this epoch is sealed with it';
