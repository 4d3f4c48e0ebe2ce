-- What step tokens have appended for an attempt; credentials of a repository until it is cloned; and by what gateways
-- find secrets that only workers have.
ALTER TABLE steps ADD COLUMN IF NOT EXISTS reporting_attempt INTEGER;
COMMENT ON COLUMN steps.reporting_attempt IS 'the attempt that reports and report_bytes count for';
ALTER TABLE steps ADD COLUMN IF NOT EXISTS reports INTEGER DEFAULT 0 NOT NULL;
COMMENT ON COLUMN steps.reports IS 'events that its step token appended';
ALTER TABLE steps ADD COLUMN IF NOT EXISTS report_bytes BIGINT DEFAULT 0 NOT NULL;
COMMENT ON COLUMN steps.report_bytes IS 'their size';
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS repo_credentials BYTEA;
COMMENT ON COLUMN sessions.repo_credentials IS 'encrypted; null: none, or the repository is cloned';
ALTER TABLE workers ADD COLUMN IF NOT EXISTS secrets JSON DEFAULT '[]' NOT NULL;
COMMENT ON COLUMN workers.secrets IS 'fingerprints of the secrets that gateways do not have';
