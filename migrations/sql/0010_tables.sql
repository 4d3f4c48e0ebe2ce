-- A stream of its own holds the heads of those that moved.
ALTER TABLE streams DROP CONSTRAINT IF EXISTS streams_kind;
ALTER TABLE streams ADD CONSTRAINT streams_kind CHECK (kind IN ('session', 'batch', 'operators', 'heads'));
