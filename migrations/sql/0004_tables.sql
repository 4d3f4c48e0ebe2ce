-- What a question wants of its answer; what a session is run with beside its input; and going on from another's state.
ALTER TABLE steps ADD COLUMN IF NOT EXISTS answer_schema JSON;
COMMENT ON COLUMN steps.answer_schema IS 'JSON Schema of the answer; null: any will do';
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS context JSON DEFAULT 'null' NOT NULL;
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS config JSON DEFAULT '{}' NOT NULL;
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS continues UUID;
COMMENT ON COLUMN sessions.continues IS 'the session from whose final state it started';
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS final_state BYTEA;
COMMENT ON COLUMN sessions.final_state IS 'the state at its end, as the codec writes it';
