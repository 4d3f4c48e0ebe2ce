-- What the end of an attempt means for its superstep: it is complete, or nothing runs any more and a person is
-- waited for, which the session then says. The caller holds the stream's lock.
CREATE OR REPLACE FUNCTION settle_superstep(
    p_session   uuid,
    p_superstep integer,
    p_reason    text,
    p_waits     text,  -- the session_event that says so
    p_salt      bytea,
    OUT is_owed boolean,
    OUT waits   boolean,
    OUT first_offset bigint,
    OUT ts      timestamptz
)
LANGUAGE plpgsql
AS $$
DECLARE
    session_status text;
BEGIN
    SELECT bool_and(p.status = 'succeeded'),
           bool_or(p.status = 'waiting') AND NOT bool_or(p.status IN ('queued', 'running'))
    INTO is_owed, waits
    FROM steps p WHERE p.session_id = p_session AND p.superstep = p_superstep;
    -- A paused session stays paused, whatever its last steps ask, and is not folded when they are complete.
    IF is_owed OR waits THEN
        SELECT x.status INTO session_status FROM sessions x WHERE x.session_id = p_session;
        is_owed := is_owed AND session_status IN ('created', 'running', 'waiting');
        waits := waits AND session_status = 'running';
    END IF;
    IF waits THEN
        UPDATE sessions x SET status = 'waiting', reason = p_reason WHERE x.session_id = p_session;
        SELECT a.first_offset, a.ts INTO first_offset, settle_superstep.ts
        FROM append_all(p_session, ARRAY[p_waits], ARRAY['session_event'], ARRAY[NULL::text], ARRAY[NULL::text],
                        ARRAY[NULL::integer], ARRAY[NULL::integer], ARRAY[p_salt]) AS a;
    END IF;
END
$$;
