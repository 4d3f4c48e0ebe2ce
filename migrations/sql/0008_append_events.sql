-- The one door for writing events.
--
-- Takes many items for one or several streams and answers for each, in the items' order:
--   appended   with its offset and ts
--   duplicate  its dedupe_key stands in the stream already, with the same content: the first one's offset and ts
--   fenced     the lease that it names is not (any more) the running attempt's
--   closed     the stream's session has ended
--   invalid    with a detail; nothing of it was written
-- An item's answer does not depend on the other items' fate.
--
-- The locks are taken for all streams, sorted, before the first write: a row lock would assign this
-- transaction's xid before all locks are held, and the order by xid would contradict the offsets.
-- The statements after the locks see what the last holder committed (READ COMMITTED, a VOLATILE function).
--
-- A stream's status is what its last session_event (or batch_event) says, so it is set here and nowhere else; with a
-- terminal one the stream is closed. Its workflow is what session_event(created) says.
--
-- Nothing is written under the epoch of another database. Where the row of the present epoch was not written here (a
-- restored dump: its xmin is not the transaction that it names) or on another timeline (a standby that was promoted),
-- the caller is to try again: each gateway and worker looks every few seconds, and begins a new epoch. Without this,
-- what is written until then would look to a reader of before like what it has.
CREATE OR REPLACE FUNCTION append_events(
    p_writer      uuid,      -- the flusher, or null inside a larger transaction
    p_call_no     bigint,    -- its calls, numbered; a repeated call gets the stored answer
    p_stream_ids  uuid[],
    p_data        text[],
    p_t           text[],
    p_agents      text[],
    p_phases      text[],
    p_steps       integer[],
    p_attempts    integer[],
    p_leases      uuid[],
    p_dedupe_keys text[],
    p_salts       bytea[]
) RETURNS TABLE (status text, "offset" bigint, ts timestamptz, detail text)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    n          CONSTANT integer := cardinality(p_stream_ids);
    statuses   text[]        := array_fill('appended'::text, ARRAY[n]);
    offsets    bigint[]      := array_fill(NULL::bigint, ARRAY[n]);
    timestamps timestamptz[] := array_fill(NULL::timestamptz, ARRAY[n]);
    details    text[]        := array_fill(NULL::text, ARRAY[n]);
    digests    bytea[]       := array_fill(NULL::bytea, ARRAY[n]);
    chains     bytea[]       := array_fill(NULL::bytea, ARRAY[n]);
    states     text[]        := array_fill(NULL::text, ARRAY[n]);  -- the stream's status after each item, if it changed
    created    uuid[]        := '{}';  -- streams of which a session_event(created) is appended,
    workflows  text[]        := '{}';  -- and what it says
    item       record;
    first      record;
    current_id uuid;
    head       bigint;
    chain      bytea;
    state      text;
    now_ts     timestamptz;
    ts_bytes   bytea;
    present    record;  -- the present epoch
BEGIN
    PERFORM pg_advisory_xact_lock(k)
    FROM (SELECT DISTINCT stream_lock_key(s) AS k FROM unnest(p_stream_ids) AS s ORDER BY k) AS sorted;

    IF p_writer IS NOT NULL THEN
        SELECT w.* INTO first FROM writers w WHERE w.writer = p_writer;
        IF FOUND AND first.call_no = p_call_no THEN
            RETURN QUERY SELECT * FROM unnest(first.statuses, first.offsets, first.timestamps, first.details);
            RETURN;
        ELSIF FOUND AND first.call_no > p_call_no THEN
            RAISE EXCEPTION 'writer % is at call %, not %', p_writer, first.call_no, p_call_no;
        END IF;
    END IF;

    SELECT e.epoch, e.timeline, e.xmin <> xid(e.xid) AS is_copied INTO present
    FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
    IF present.is_copied THEN
        RAISE cannot_connect_now USING MESSAGE = 'the database was restored: a new epoch has to begin first';
    ELSIF present.timeline IS NOT NULL THEN  -- null: it may not be asked for on this server
        IF to_hex(present.timeline) <> ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0') THEN
            RAISE cannot_connect_now USING MESSAGE = 'the cluster was promoted: a new epoch has to begin first';
        END IF;
    END IF;

    now_ts := clock_timestamp();
    FOR item IN
        SELECT u.stream_id, u.dedupe_key, u.i, s.head, s.head_chain, greatest(now_ts, s.last_ts) AS ts,
               sha256(u.salt || convert_to(u.data, 'UTF8')) AS digest,
               CASE
                   WHEN s.stream_id IS NULL THEN 'invalid'
                   WHEN s.closed THEN 'closed'
                   WHEN u.lease IS NOT NULL AND NOT EXISTS (
                       SELECT FROM steps p
                       WHERE p.session_id = u.stream_id AND p.step = u.step AND p.attempt = u.attempt
                         AND p.lease_token = u.lease) THEN 'fenced'
                   WHEN NOT starts_with(u.data, '{"t":"' || u.t || '"') OR strpos(u.data, E'\n') > 0 THEN 'invalid'
               END AS refusal
        FROM unnest(p_stream_ids, p_data, p_t, p_steps, p_attempts, p_leases, p_dedupe_keys, p_salts)
             WITH ORDINALITY AS u(stream_id, data, t, step, attempt, lease, dedupe_key, salt, i)
        LEFT JOIN streams s ON s.stream_id = u.stream_id
        ORDER BY u.stream_id, u.i
    LOOP
        IF item.stream_id IS DISTINCT FROM current_id THEN
            current_id := item.stream_id;
            head := item.head;
            chain := item.head_chain;
            state := NULL;
            ts_bytes := int8send((extract(epoch FROM item.ts) * 1000000)::bigint);
        END IF;

        IF item.dedupe_key IS NOT NULL AND head IS NOT NULL THEN
            SELECT e."offset", e.ts, e.data::text AS data INTO first
            FROM events e WHERE e.stream_id = current_id AND e.dedupe_key = item.dedupe_key;
            IF NOT FOUND THEN  -- perhaps earlier in this call
                SELECT offsets[u.i] AS "offset", timestamps[u.i] AS ts, u.data INTO first
                FROM unnest(p_stream_ids, p_dedupe_keys, p_data) WITH ORDINALITY AS u(stream_id, dedupe_key, data, i)
                WHERE u.i < item.i AND u.stream_id = current_id AND u.dedupe_key = item.dedupe_key
                  AND statuses[u.i] = 'appended';
            END IF;
            IF FOUND THEN
                IF first.data = p_data[item.i] THEN
                    statuses[item.i] := 'duplicate';
                    offsets[item.i] := first."offset";
                    timestamps[item.i] := first.ts;
                ELSE
                    statuses[item.i] := 'invalid';
                    details[item.i] := 'this dedupe_key was used with other content, at offset ' || first."offset";
                END IF;
                CONTINUE;
            END IF;
        END IF;

        IF item.refusal IS NOT NULL THEN
            statuses[item.i] := item.refusal;
            IF item.refusal = 'invalid' THEN
                details[item.i] := CASE WHEN head IS NULL THEN 'there is no such stream'
                                        ELSE 'data is not one line that begins with its t' END;
            END IF;
            CONTINUE;
        END IF;

        head := head + 1;
        chain := sha256(chain || int8send(head) || ts_bytes || item.digest);
        offsets[item.i] := head;
        timestamps[item.i] := item.ts;
        digests[item.i] := item.digest;
        chains[item.i] := chain;
        IF p_t[item.i] IN ('session_event', 'batch_event') THEN
            state := p_data[item.i]::json ->> 'status';
            IF state = 'created' THEN
                created := created || current_id;
                workflows := workflows || (p_data[item.i]::json ->> 'workflow');
            END IF;
        END IF;
        states[item.i] := state;
    END LOOP;

    INSERT INTO events (stream_id, "offset", epoch, ts, t, agent, phase, step, attempt, dedupe_key,
                        data, salt, digest, chain)
    SELECT u.stream_id, u.o, present.epoch, u.ts, u.t, u.agent, u.phase, u.step, u.attempt, u.dedupe_key,
           u.data::json, u.salt, u.digest, u.chain
    FROM unnest(p_stream_ids, offsets, timestamps, p_t, p_agents, p_phases, p_steps, p_attempts, p_dedupe_keys,
                p_data, p_salts, digests, chains, statuses)
         AS u(stream_id, o, ts, t, agent, phase, step, attempt, dedupe_key, data, salt, digest, chain, status)
    WHERE u.status = 'appended';

    -- All heads in one statement: one UPDATE per stream cost 40 % with a hundred streams in a call.
    UPDATE streams s SET head = m.head, head_chain = m.chain, last_ts = m.ts, status = coalesce(m.state, s.status),
                         closed = coalesce(m.state IN ('succeeded', 'failed', 'cancelled'), s.closed)
    FROM (SELECT DISTINCT ON (u.stream_id) u.stream_id, u.head, u.chain, u.ts, u.state
          FROM unnest(p_stream_ids, offsets, chains, timestamps, states, statuses)
               AS u(stream_id, head, chain, ts, state, status)
          WHERE u.status = 'appended'
          ORDER BY u.stream_id, u.head DESC) AS m
    WHERE s.stream_id = m.stream_id;
    IF cardinality(created) > 0 THEN
        UPDATE streams s SET workflow_name = u.workflow
        FROM unnest(created, workflows) AS u(stream_id, workflow) WHERE s.stream_id = u.stream_id;
    END IF;

    IF p_writer IS NOT NULL THEN
        INSERT INTO writers AS w (writer, call_no, statuses, offsets, timestamps, details)
        VALUES (p_writer, p_call_no, statuses, offsets, timestamps, details)
        ON CONFLICT (writer) DO UPDATE
        SET call_no = excluded.call_no, statuses = excluded.statuses, offsets = excluded.offsets,
            timestamps = excluded.timestamps, details = excluded.details, called_at = clock_timestamp();
    END IF;

    RETURN QUERY SELECT * FROM unnest(statuses, offsets, timestamps, details);
END
$$;
