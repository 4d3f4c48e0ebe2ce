-- The epoch, after a new one has begun if this is another cluster than that on which the last one did: a dump was
-- restored, so offsets begin a new life. Anybody may ask: nothing can be said to it.
CREATE OR REPLACE FUNCTION observe_cluster(OUT epoch bigint, OUT is_new boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    here  CONSTANT bigint := (SELECT c.system_identifier FROM pg_control_system() c);
    known bigint;
BEGIN
    LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE;
    SELECT e.epoch, e.system_identifier INTO observe_cluster.epoch, known
    FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
    is_new := known IS DISTINCT FROM here;
    IF is_new THEN
        observe_cluster.epoch := begin_epoch('the database is on another cluster than before: it was restored');
    END IF;
END
$$;
