-- Begins a new epoch, for an operator, and for observe_cluster.
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
    INSERT INTO epochs AS e (epoch, system_identifier, reason)
    SELECT max(o.epoch) + 1, (SELECT c.system_identifier FROM pg_control_system() c), p_reason FROM epochs o
    RETURNING e.epoch INTO begun;
    RETURN begun;
END
$$;
