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
