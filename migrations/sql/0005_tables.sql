-- What each worker was given: the workflows that it serves, and those that it refuses, with the reasons.
ALTER TABLE workers ADD COLUMN IF NOT EXISTS served TEXT[];
COMMENT ON COLUMN workers.served IS 'names of workflows; null: a worker of the version before did not tell';
ALTER TABLE workers ADD COLUMN IF NOT EXISTS refused JSON DEFAULT '[]' NOT NULL;
COMMENT ON COLUMN workers.refused IS 'workflow, module and reason of each';
