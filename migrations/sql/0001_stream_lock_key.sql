-- The key of a stream's advisory lock. Whoever writes to a stream, or to its session's steps, holds it.
CREATE FUNCTION stream_lock_key(stream_id uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN uuid_hash_extended(stream_id, 0);
