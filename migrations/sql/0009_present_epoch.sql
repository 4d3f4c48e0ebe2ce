-- The present epoch; if it began elsewhere, how it came here; and what could not be asked of this server. What is not
-- known tells nothing. It writes nothing, and takes no lock.
--
-- Whatever restores a row of epochs writes it in another transaction than the one that it names, also on its own
-- cluster. The timeline is that of the log's end: pg_control_checkpoint() tells a promotion only after the next
-- checkpoint, seconds later.
CREATE OR REPLACE FUNCTION present_epoch(
    OUT epoch bigint, OUT reason text, OUT unknown text, OUT system_identifier bigint, OUT timeline integer
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    began record;
BEGIN
    BEGIN
        system_identifier := (SELECT c.system_identifier FROM pg_control_system() c);
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
        unknown := SQLERRM;
    END;
    BEGIN
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function
                   OR object_not_in_prerequisite_state THEN
        unknown := SQLERRM;
    END;
    SELECT e.epoch, e.system_identifier, e.timeline, e.xmin <> xid(e.xid) AS is_copied INTO began
    FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
    epoch := began.epoch;
    reason := CASE
        WHEN began.system_identifier <> system_identifier
            THEN 'the database is on another cluster than before: it was restored'
        WHEN began.is_copied THEN 'the database was restored on its own cluster'
        WHEN began.timeline <> timeline
            THEN 'the cluster is on another timeline than before: a standby was promoted, or an archive restored'
    END;
END
$$;
