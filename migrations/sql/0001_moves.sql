-- The moves of a session, each in one call: claim a step, complete it, commit a fold.
--
-- Each takes the stream's lock first, checks under it that its caller may still make the move, and only then
-- writes; so a message that comes twice, and a worker that was presumed dead, change nothing. A move answers with
-- no row when there was nothing to do. They are planned as append_events is, and for the same reasons.

-- Appends to one stream, whose lock the caller holds. All or nothing: a refusal undoes the caller's transaction.
CREATE FUNCTION append_all(
    p_stream   uuid,
    p_data     text[],
    p_t        text[],
    p_agents   text[],
    p_phases   text[],
    p_steps    integer[],
    p_attempts integer[],
    p_salts    bytea[],
    OUT first_offset bigint,  -- the others follow it
    OUT ts     timestamptz    -- of all of them
)
LANGUAGE plpgsql
AS $$
DECLARE
    n       CONSTANT integer := cardinality(p_data);
    refusal text;
BEGIN
    IF n = 0 THEN
        RETURN;
    END IF;
    SELECT min(a."offset"), min(a.ts), min(a.status || coalesce(': ' || a.detail, '')) FILTER (WHERE a.status <> 'appended')
    INTO first_offset, append_all.ts, refusal
    FROM append_events(NULL, NULL, array_fill(p_stream, ARRAY[n]), p_data, p_t, p_agents, p_phases, p_steps,
                       p_attempts, array_fill(NULL::uuid, ARRAY[n]), array_fill(NULL::text, ARRAY[n]), p_salts) AS a;
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION 'the log refused an event of its own engine: %', refusal;
    END IF;
END
$$;

-- Gives a queued step to a worker, if it is due and the worker serves its session's version of the workflow.
-- Repeated with the same lease it gives the same answer: the commit of the first call may have been in doubt.
CREATE FUNCTION claim_step(
    p_session   uuid,
    p_step      integer,
    p_attempt   integer,
    p_lease     uuid,
    p_lasts     interval,
    p_worker    text,
    p_workflows text[],   -- what the worker serves,
    p_versions  text[],   -- pair by pair
    p_alone     boolean,  -- takes a step that was lost before, and only then
    p_goes_on   text,     -- the session_event for a session that waited
    p_salts     bytea[]   -- of two events
) RETURNS TABLE (session sessions, step steps, is_new boolean, goes_on boolean, event text, first_offset bigint, ts timestamptz)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
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
          AND p.available_at <= clock_timestamp() AND (p.lost > 0) = p_alone
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
    event := format('{"t":"step_event","step":%s,"agent":%s,"status":"running","attempt":%s,"worker":%s}',
                    p_step, to_json(step.agent), p_attempt, to_json(p_worker));
    IF goes_on THEN
        UPDATE sessions x SET status = 'running', reason = NULL WHERE x.session_id = p_session;
        SELECT a.first_offset, a.ts INTO first_offset, ts
        FROM append_all(p_session, ARRAY[p_goes_on, event], ARRAY['session_event', 'step_event'],
                        ARRAY[NULL, step.agent], ARRAY[NULL, NULL], ARRAY[NULL, p_step], ARRAY[NULL, p_attempt],
                        p_salts) AS a;
    ELSE
        SELECT a.first_offset, a.ts INTO first_offset, ts
        FROM append_all(p_session, ARRAY[event], ARRAY['step_event'], ARRAY[step.agent], ARRAY[NULL::text],
                        ARRAY[p_step], ARRAY[p_attempt], p_salts[2:2]) AS a;
    END IF;
    RETURN NEXT;
END
$$;

-- What the end of an attempt means for its superstep: it is complete, or nothing runs any more and a person is
-- waited for, which the session then says. The caller holds the stream's lock.
CREATE FUNCTION settle_superstep(
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
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    SELECT bool_and(p.status = 'succeeded'),
           bool_or(p.status = 'waiting') AND NOT bool_or(p.status IN ('queued', 'running'))
    INTO is_owed, waits
    FROM steps p WHERE p.session_id = p_session AND p.superstep = p_superstep;
    IF waits THEN
        UPDATE sessions x SET status = 'waiting', reason = p_reason WHERE x.session_id = p_session;
        SELECT a.first_offset, a.ts INTO first_offset, settle_superstep.ts
        FROM append_all(p_session, ARRAY[p_waits], ARRAY['session_event'], ARRAY[NULL::text], ARRAY[NULL::text],
                        ARRAY[NULL::integer], ARRAY[NULL::integer], ARRAY[p_salt]) AS a;
    END IF;
END
$$;

-- Ends an attempt with what its node returned, and tells what is to be folded if its superstep is complete now.
CREATE FUNCTION complete_step(
    p_session uuid,
    p_step    integer,
    p_lease   uuid,
    p_update  json,
    p_commit  text,
    p_agent   text,
    p_attempt integer,
    p_event   text,
    p_reason  text,    -- as for settle_superstep
    p_waits   text,
    p_salts   bytea[]  -- of both events
) RETURNS TABLE (first_offset bigint, ts timestamptz, waits boolean, waits_ts timestamptz, owed steps[])
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    this_superstep integer;
    settled        record;
BEGIN
    PERFORM pg_advisory_xact_lock(stream_lock_key(p_session));

    UPDATE steps p SET status = 'succeeded', lease_token = NULL, lease_until = NULL, ended_at = clock_timestamp(),
                       update_data = p_update, commit = p_commit, node_snapshot = NULL
    WHERE p.session_id = p_session AND p.step = p_step AND p.lease_token = p_lease AND p.status = 'running'
    RETURNING p.superstep INTO this_superstep;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT a.first_offset, a.ts INTO first_offset, ts
    FROM append_all(p_session, ARRAY[p_event], ARRAY['step_event'], ARRAY[p_agent], ARRAY[NULL::text], ARRAY[p_step],
                    ARRAY[p_attempt], p_salts[1:1]) AS a;

    SELECT * INTO settled FROM settle_superstep(p_session, this_superstep, p_reason, p_waits, p_salts[2]);
    waits := settled.waits;
    waits_ts := settled.ts;
    IF settled.is_owed THEN
        owed := ARRAY(SELECT p FROM steps p WHERE p.session_id = p_session AND p.superstep = this_superstep
                      ORDER BY p.step);
    END IF;
    RETURN NEXT;
END
$$;

-- Puts what a fold found in the place of what it began with, if that is still the snapshot of `p_version`.
CREATE FUNCTION commit_fold(
    p_session       uuid,
    p_version       integer,
    p_snapshot      bytea,
    p_superstep     integer,  -- the one that is folded now
    p_base_commit   text,
    p_first_step    integer,  -- the new steps, numbered from here on
    p_task_paths    text[],
    p_agents        text[],
    p_queues        text[],
    p_interrupt_ids text[],
    p_inputs        bytea[],
    p_max_attempts  integer[],
    p_time_limits   bigint[],
    p_goes_on       text,     -- the session_event for a session that did not run
    p_goes_on_salt  bytea,
    p_data          text[],   -- the events, in order
    p_t             text[],
    p_event_agents  text[],
    p_phases        text[],
    p_steps         integer[],
    p_attempts      integer[],
    p_salts         bytea[]
) RETURNS TABLE (goes_on boolean, first_offset bigint, ts timestamptz)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    status text;
BEGIN
    PERFORM pg_advisory_xact_lock(stream_lock_key(p_session));

    SELECT x.status INTO status FROM sessions x WHERE x.session_id = p_session AND x.snapshot_version = p_version;
    IF NOT FOUND OR status IN ('succeeded', 'failed', 'cancelled') THEN
        RETURN;
    END IF;
    UPDATE sessions x SET status = 'running', reason = NULL, snapshot = p_snapshot, snapshot_version = p_version + 1,
                          folded_superstep = p_superstep, base_commit = p_base_commit,
                          last_step = p_first_step - 1 + cardinality(p_task_paths)
    WHERE x.session_id = p_session;
    INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, interrupt_id, input,
                       max_attempts, time_limit_ms, sent_at)
    SELECT p_session, p_first_step - 1 + n.i, p_superstep + 1, n.task_path, n.agent, n.queue, 'queued', n.interrupt_id,
           n.input, n.max_attempts, n.time_limit, clock_timestamp()
    FROM unnest(p_task_paths, p_agents, p_queues, p_interrupt_ids, p_inputs, p_max_attempts, p_time_limits)
         WITH ORDINALITY AS n(task_path, agent, queue, interrupt_id, input, max_attempts, time_limit, i);

    goes_on := status <> 'running';
    IF goes_on THEN
        p_data := array_prepend(p_goes_on, p_data);
        p_t := array_prepend('session_event', p_t);
        p_event_agents := array_prepend(NULL, p_event_agents);
        p_phases := array_prepend(NULL, p_phases);
        p_steps := array_prepend(NULL, p_steps);
        p_attempts := array_prepend(NULL, p_attempts);
        p_salts := array_prepend(p_goes_on_salt, p_salts);
    END IF;
    SELECT a.first_offset, a.ts INTO first_offset, ts
    FROM append_all(p_session, p_data, p_t, p_event_agents, p_phases, p_steps, p_attempts, p_salts) AS a;
    RETURN NEXT;
END
$$;
