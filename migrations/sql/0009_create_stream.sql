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
