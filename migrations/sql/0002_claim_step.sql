-- Gives a queued step to a worker, if it is due and the worker serves its session's version of the workflow.
-- Repeated with the same lease it gives the same answer: the commit of the first call may have been in doubt.
CREATE OR REPLACE FUNCTION claim_step(
    p_session   uuid,
    p_step      integer,
    p_attempt   integer,
    p_lease     uuid,
    p_lasts     interval,
    p_worker    text,
    p_workflows text[],   -- what the worker serves,
    p_versions  text[],   -- pair by pair
    p_alone     boolean,  -- takes a step that was lost before, and only then
    p_agent     text,     -- whose event this is: the step's, or there is nothing to claim
    p_event     text,     -- the step_event that says that it runs
    p_goes_on   text,     -- the session_event for a session that waited
    p_salts     bytea[]   -- of two events
) RETURNS TABLE (session sessions, step steps, is_new boolean, goes_on boolean, first_offset bigint, ts timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pg_advisory_xact_lock(stream_lock_key(p_session));

    SELECT x.* INTO session FROM sessions x WHERE x.session_id = p_session;
    IF session.status IN ('created', 'running', 'waiting')
       AND EXISTS (SELECT FROM unnest(p_workflows, p_versions) AS served(workflow, version)
                   WHERE (served.workflow, served.version) = (session.workflow, session.workflow_version)) THEN
        UPDATE steps p SET status = 'running', lease_token = p_lease, worker = p_worker, error = NULL,
                           lease_until = clock_timestamp() + p_lasts, started_at = clock_timestamp()
        WHERE p.session_id = p_session AND p.step = p_step AND p.attempt = p_attempt AND p.status = 'queued'
          AND p.agent = p_agent AND p.available_at <= clock_timestamp() AND (p.lost > 0) = p_alone
        RETURNING p.* INTO step;
    END IF;
    is_new := step.session_id IS NOT NULL;
    IF NOT is_new THEN
        SELECT p.* INTO step FROM steps p WHERE p.session_id = p_session AND p.step = p_step AND p.lease_token = p_lease;
        IF FOUND THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;

    goes_on := session.status = 'waiting';
    IF goes_on THEN
        UPDATE sessions x SET status = 'running', reason = NULL WHERE x.session_id = p_session;
        SELECT a.first_offset, a.ts INTO first_offset, ts
        FROM append_all(p_session, ARRAY[p_goes_on, p_event], ARRAY['session_event', 'step_event'],
                        ARRAY[NULL, p_agent], ARRAY[NULL, NULL], ARRAY[NULL, p_step], ARRAY[NULL, p_attempt],
                        p_salts) AS a;
    ELSE
        SELECT a.first_offset, a.ts INTO first_offset, ts
        FROM append_all(p_session, ARRAY[p_event], ARRAY['step_event'], ARRAY[p_agent], ARRAY[NULL::text],
                        ARRAY[p_step], ARRAY[p_attempt], p_salts[2:2]) AS a;
    END IF;
    RETURN NEXT;
END
$$;
