-- Puts what a fold found in the place of what it began with, if that is still the snapshot of `p_version`.
CREATE OR REPLACE FUNCTION commit_fold(
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
AS $$
#variable_conflict use_variable
DECLARE
    status text;
BEGIN
    PERFORM pg_advisory_xact_lock(stream_lock_key(p_session));

    SELECT x.status INTO status FROM sessions x WHERE x.session_id = p_session AND x.snapshot_version = p_version;
    IF NOT FOUND OR status NOT IN ('created', 'running', 'waiting') THEN
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
