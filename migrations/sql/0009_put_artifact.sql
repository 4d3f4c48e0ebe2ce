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
