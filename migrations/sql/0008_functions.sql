-- What writes history apart from appends, so that the application's role needs no right to write it itself.

-- A stream begins with no event, and its chain with the hash of its id. A project has one operators' stream; a second
-- one is not made, and is no error.
CREATE OR REPLACE FUNCTION create_stream(p_stream uuid, p_kind text, p_project text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO streams (stream_id, kind, head_chain, project)
    VALUES (p_stream, p_kind, sha256(uuid_send(p_stream)), p_project)
    ON CONFLICT (project) WHERE kind = 'operators' DO NOTHING;
END
$$;

-- Lets the stream of a failed session take events again; the one that follows in this transaction says what it is now.
CREATE OR REPLACE FUNCTION reopen_stream(p_stream uuid) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE streams s SET closed = false
    WHERE s.stream_id = p_stream AND s.kind = 'session' AND s.closed AND s.status = 'failed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stream % is not that of a failed session', p_stream USING ERRCODE = 'check_violation';
    END IF;
END
$$;

-- Keeps a content of the stream under its own digest, which no caller says; one that is there stays as it is.
CREATE OR REPLACE FUNCTION put_artifact(p_stream uuid, p_media_type text, p_content bytea) RETURNS bytea
LANGUAGE plpgsql
AS $$
DECLARE
    digest CONSTANT bytea := sha256(p_content);
BEGIN
    INSERT INTO artifacts AS a (stream_id, digest, media_type, content)
    VALUES (p_stream, digest, p_media_type, p_content)
    ON CONFLICT ON CONSTRAINT artifacts_pkey DO NOTHING;
    RETURN digest;
END
$$;

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
