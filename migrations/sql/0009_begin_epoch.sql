-- Begins a new epoch, for an operator, and for observe_cluster. Its number is the time, so that two restores of one dump
-- never go on under one number.
--
-- The lock waits for all transactions that write under the present epoch: an append reads it, and so holds the weakest
-- lock on the table to its end. Otherwise its events would appear in an epoch that readers had left.
CREATE OR REPLACE FUNCTION begin_epoch(p_reason text) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    begun bigint;
BEGIN
    LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE;
    INSERT INTO epochs AS e (epoch, system_identifier, timeline, reason)
    SELECT greatest(p.epoch + 1, extract(epoch FROM clock_timestamp())::bigint), p.system_identifier, p.timeline, p_reason
    FROM present_epoch() p
    RETURNING e.epoch INTO begun;
    RETURN begun;
END
$$;
