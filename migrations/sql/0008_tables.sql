DROP TRIGGER widen_epoch ON events;
DROP FUNCTION widen_epoch();
ALTER TABLE events DROP COLUMN epoch;  -- its index goes with it
ALTER TABLE events RENAME COLUMN wide_epoch TO epoch;
ALTER TABLE events ALTER COLUMN epoch DROP DEFAULT;
ALTER INDEX events_wide_position RENAME TO events_position;

ALTER TABLE epochs ALTER COLUMN epoch TYPE bigint;
ALTER TABLE epochs ADD COLUMN timeline integer;
ALTER TABLE epochs ADD COLUMN xid xid8 DEFAULT pg_current_xact_id() NOT NULL;
COMMENT ON COLUMN epochs.timeline IS 'the timeline on which it began; null: not known';
COMMENT ON COLUMN epochs.xid IS 'the transaction that wrote this row; in a restored one it is not its xmin';
