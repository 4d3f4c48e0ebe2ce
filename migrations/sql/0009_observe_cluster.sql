-- The epoch, after a new one has begun if the present one began elsewhere; then the reason, else null. Anybody may ask:
-- nothing can be said to it.
CREATE OR REPLACE FUNCTION observe_cluster(OUT epoch bigint, OUT reason text)
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE;
    SELECT p.epoch, p.reason INTO observe_cluster.epoch, observe_cluster.reason FROM present_epoch() p;
    IF observe_cluster.reason IS NOT NULL THEN
        observe_cluster.epoch := begin_epoch(observe_cluster.reason);
    END IF;
END
$$;
