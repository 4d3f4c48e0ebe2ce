-- Forgeries of a populated database, made by a superuser whom no constraint hinders, and what catches each: above the
-- statement stand its name, then the check of `stellwerk verify` and a part of what that says. {succeeded} and the like
-- are the ids of the population's sessions; forging.sql has the functions.


-- == Events

-- the first events deleted, and earliest raised
-- erasure: offsets 1 … 2: removed
DELETE FROM events WHERE stream_id = '{failed}' AND "offset" <= 2;
UPDATE streams SET earliest = 3 WHERE stream_id = '{failed}';

-- all but the last event deleted
-- erasure: removed, and no event of an operator allows it
DELETE FROM events WHERE stream_id = '{succeeded}' AND NOT "offset" = (SELECT head
    FROM streams WHERE stream_id = events.stream_id);
UPDATE streams SET earliest = head WHERE stream_id = '{succeeded}';

-- an event passed off as erased
-- erasure: offset 5: erased
SELECT erase('{failed}', 5);

-- all that an agent said passed off as erased
-- erasure: offset 5: erased
SELECT erase(stream_id, "offset") FROM events WHERE t = 'agent_event';

-- an erased event with a salt, and the chain anew
-- erasure: offset 5: erased
SELECT erase('{failed}', 5);
UPDATE events SET salt = 'salt' WHERE salt = '';
SELECT rechain('{failed}');

-- an event passed off as erased, as an operator of another project wanted it
-- erasure: offset 5: erased
SELECT erase('{cancelled}', 5);

-- another text
-- chain: data and salt do not give
SELECT reword('{failed}', 'half', 'full');

-- another salt
-- chain: offset 5: data
UPDATE events SET salt = 'salt' WHERE "offset" = 5;

-- another digest
-- chain: offset 5: data
UPDATE events SET digest = '' WHERE "offset" = 5;

-- another chain
-- chain: offset 5: the chain
UPDATE events SET chain = '' WHERE "offset" = 5;

-- another time
-- chain: offset 5: the chain breaks
UPDATE events SET ts = ts + interval '1 microsecond' WHERE "offset" = 5;

-- a time that no clock shows
-- columns: it holds what the log never does
UPDATE events SET ts = 'infinity' WHERE "offset" = 5;

-- events of another shape, the chain anew
-- columns: it is not a step_event as the log has them
SELECT reword('{failed}', '"step":1', '"step":"one"'), rechain('{failed}');

-- another agent
-- columns: the column agent
UPDATE events SET agent = 'me' WHERE agent = 'architect';

-- another phase
-- columns: the column phase
UPDATE events SET phase = 'decision' WHERE phase IS NOT NULL;

-- another step
-- columns: the column step
UPDATE events SET step = 7 WHERE "offset" = 5;

-- another attempt
-- columns: the column attempt
UPDATE events SET attempt = 7 WHERE "offset" = 5;

-- another kind
-- columns: the column t
UPDATE events SET t = 'model_event' WHERE "offset" = 5;

-- an event deleted
-- offsets: offset 5: missing
DELETE FROM events WHERE "offset" = 5 AND t = 'agent_event';

-- the last event deleted
-- offsets: missing at the end
DELETE FROM events WHERE "offset" = (SELECT head FROM streams WHERE stream_id = events.stream_id);

-- the last event deleted, and the head set back
-- heads: it was taken back: its head is
DELETE FROM events WHERE stream_id = '{cancelled}' AND "offset" = (SELECT head
    FROM streams WHERE stream_id = events.stream_id);
SELECT rechain('{cancelled}');

-- an event past the head
-- offsets: stands outside of 1 …
INSERT INTO events (stream_id, "offset", position, xid, epoch, ts, t, agent, phase, step, attempt,
    dedupe_key, data, salt, digest, chain)
    SELECT stream_id, "offset" + 100, position + 5000, xid, epoch, ts, t, agent, phase, step,
    attempt, NULL, data, salt, digest, chain FROM events WHERE stream_id = '{failed}' AND "offset" = 5;

-- an event before the first
-- offsets: offset 0: stands outside
INSERT INTO events (stream_id, "offset", position, xid, epoch, ts, t, agent, phase, step, attempt,
    dedupe_key, data, salt, digest, chain)
    SELECT stream_id, 0, position + 5000, xid, epoch, ts, t, agent, phase, step, attempt, NULL,
    data, salt, digest, chain FROM events WHERE stream_id = '{failed}' AND "offset" = 5;

-- an event moved far away
-- offsets: offset 5: missing
UPDATE events SET "offset" = 500 WHERE stream_id = '{failed}' AND "offset" = 5;

-- two events in each other's place
-- chain: offset 4: the chain breaks
UPDATE events SET "offset" = CASE "offset" WHEN 4 THEN -5 WHEN 5 THEN -4 END
    WHERE stream_id = '{failed}' AND "offset" IN (4, 5);
UPDATE events SET "offset" = -"offset" WHERE "offset" < 0;

-- another session's event appended
-- chain: the chain breaks
INSERT INTO events (stream_id, "offset", position, xid, epoch, ts, t, agent, phase, step, attempt,
    dedupe_key, data, salt, digest, chain)
    SELECT s.stream_id, head + 1, position + 5000, xid, epoch, last_ts, t, agent, phase, step,
    attempt, NULL, data, salt, digest, chain
    FROM events e, streams s WHERE e.stream_id = '{failed}' AND "offset" = 5 AND s.stream_id = '{created}';
UPDATE streams SET head = head + 1 WHERE stream_id = '{created}';

-- a session written anew, chain and row included
-- heads: it was written anew
SELECT reword('{created}', 'fix the lint errors', 'nothing at all'), rechain('{created}');
UPDATE sessions SET task = 'nothing at all', input = json(replace(input::text, task, 'nothing at all'))
    WHERE session_id = '{created}';

-- a session written anew that another one continues
-- session: the session that it continues is not what its first event says
SELECT reword('{succeeded}', 'half way', 'all the way'), rechain('{succeeded}');


-- == The order of all streams

-- a session that was written in the next epoch
-- order: some were removed, added or moved
UPDATE events SET epoch = 2 WHERE stream_id = '{failed}';

-- an epoch that began later
-- order: when the database was not in epoch 1
UPDATE epochs SET began_at = began_at + interval '1 day' WHERE epoch = (SELECT max(epoch) FROM epochs);

-- an epoch that there is not
-- order: there is no epoch 9
UPDATE events SET epoch = 9 WHERE "offset" = 5;

-- an epoch that falls
-- order: fall, from 2-
UPDATE events SET epoch = 2 WHERE NOT "offset" = (SELECT head FROM streams WHERE stream_id = events.stream_id);

-- an epoch's row deleted
-- order: there is no epoch 1
DELETE FROM epochs WHERE epoch = (SELECT max(epoch) FROM epochs);

-- an epoch before which there were events
-- order: when the database was not in epoch 1
UPDATE epochs SET began_at = began_at + interval '1 hour' WHERE epoch = 1;

-- an earlier transaction
-- order: epoch and transaction fall
UPDATE events SET xid = '5' WHERE "offset" = 5;

-- an earlier position
-- order: the position is 0
UPDATE events SET position = 0 WHERE "offset" = 5;

-- two sessions in each other's place in the order of all streams
-- order: their order was changed
UPDATE events e SET xid = o.xid, position = o.position
    FROM events o WHERE e."offset" = o."offset"
    AND (e.stream_id, o.stream_id) IN (('{failed}', '{cancelled}'), ('{cancelled}', '{failed}'));

-- a position that fits between its neighbours
-- order: some were removed, added or moved
UPDATE events SET position = position * 10;
UPDATE events SET position = position + 1 WHERE "offset" = 5;
UPDATE events SET position = position - 1 WHERE stream_id = '{cancelled}' AND "offset" = 4;

-- a session that was later than the others
-- order: some were removed, added or moved
UPDATE events SET xid = (xid::text::bigint + 100000)::text::xid8, position = position + 100000
    WHERE stream_id = '{failed}';


-- == Sessions

-- another task
-- session: the column task
UPDATE sessions SET task = 'nothing' WHERE session_id = '{succeeded}';

-- another input
-- session: the column input
UPDATE sessions SET input = '{}' WHERE session_id = '{succeeded}';

-- another context
-- session: the column context
UPDATE sessions SET context = '{}' WHERE session_id = '{succeeded}';

-- another config
-- session: the column config
UPDATE sessions SET config = '{"tags":["x"]}' WHERE session_id = '{succeeded}';

-- another path
-- session: the column path
UPDATE sessions SET path = '/etc' WHERE session_id = '{succeeded}';

-- another repository
-- session: the column repo
UPDATE sessions SET repo = 'https://example.org/x.git' WHERE session_id = '{succeeded}';

-- another priority
-- session: the column priority
UPDATE sessions SET priority = 7 WHERE session_id = '{succeeded}';

-- other options
-- session: the column options
UPDATE sessions SET options = '{"x":1}' WHERE session_id = '{succeeded}';

-- another principal
-- session: the column principal
UPDATE sessions SET principal = 'mallory' WHERE session_id = '{succeeded}';

-- another workflow
-- session: the column workflow
UPDATE sessions SET workflow = 'other' WHERE session_id = '{succeeded}';

-- another version
-- session: the column workflow_version
UPDATE sessions SET workflow_version = '2' WHERE session_id = '{succeeded}';

-- another LangGraph
-- session: the column langgraph_version
UPDATE sessions SET langgraph_version = '0.1' WHERE session_id = '{succeeded}';

-- another parent
-- session: the column continues
UPDATE sessions SET continues = NULL WHERE session_id = '{continued}';

-- a parent
-- session: the column continues
UPDATE sessions SET continues = '{failed}' WHERE session_id = '{succeeded}';

-- another result
-- session: the column result
UPDATE sessions SET result = '{"summary":"all is well"}' WHERE session_id = '{succeeded}';

-- no result
-- session: the column result
UPDATE sessions SET result = NULL WHERE session_id = '{succeeded}';

-- a result of a session that failed
-- session: the column result
UPDATE sessions SET result = '{}' WHERE session_id = '{failed}';

-- another reason
-- session: the column reason
UPDATE sessions SET reason = 'it was the network' WHERE session_id = '{failed}';

-- another beginning
-- session: the column created_at
UPDATE sessions SET created_at = created_at - interval '1 day' WHERE session_id = '{succeeded}';

-- another end
-- session: the column ended_at
UPDATE sessions SET ended_at = ended_at + interval '1 hour' WHERE session_id = '{succeeded}';

-- no end
-- session: the column ended_at
UPDATE sessions SET ended_at = NULL WHERE session_id = '{succeeded}';

-- fewer steps
-- session: the column last_step
UPDATE sessions SET last_step = 0 WHERE session_id = '{succeeded}';

-- another superstep
-- session: the column folded_superstep
UPDATE sessions SET folded_superstep = 7 WHERE session_id = '{succeeded}';

-- another status, of its stream, too
-- session: the column status
UPDATE sessions SET status = 'succeeded' WHERE session_id = '{failed}';
UPDATE streams SET status = 'succeeded' WHERE stream_id = '{failed}';

-- another project, of its stream, too
-- session: the column project
UPDATE sessions SET project = 'another' WHERE session_id = '{failed}';
UPDATE streams SET project = 'another' WHERE stream_id = '{failed}';

-- the row deleted
-- session: it has a stream, and no row
DELETE FROM sessions WHERE session_id = '{failed}';

-- another patch as artifact, and the result pointed at it
-- session: the column result
INSERT INTO artifacts (stream_id, digest, media_type, content)
    VALUES ('{succeeded}', sha256('evil'), 'text/x-diff', 'evil');
UPDATE sessions SET result = json(replace(result::text, result ->> 'patch_digest', encode(sha256('evil'), 'hex')))
    WHERE session_id = '{succeeded}';


-- == Steps

-- another status
-- steps: the column status
UPDATE steps SET status = 'cancelled' WHERE session_id = '{succeeded}' AND step = 1;

-- another agent
-- steps: the column agent
UPDATE steps SET agent = 'codesmith' WHERE session_id = '{succeeded}' AND step = 1;

-- another queue
-- steps: the column queue
UPDATE steps SET queue = 'other' WHERE session_id = '{succeeded}' AND step = 1;

-- another attempt
-- steps: the column attempt
UPDATE steps SET attempt = 2 WHERE session_id = '{succeeded}' AND step = 1;

-- another superstep
-- steps: the column superstep
UPDATE steps SET superstep = 2 WHERE session_id = '{succeeded}' AND step = 1;

-- another task
-- steps: the column task_path
UPDATE steps SET task_path = 'node:other' WHERE session_id = '{succeeded}' AND step = 1;

-- another worker
-- steps: the column worker
UPDATE steps SET worker = 'elsewhere:1' WHERE session_id = '{succeeded}' AND step = 1;

-- another commit
-- steps: the column commit
UPDATE steps SET commit = 'bad' WHERE session_id = '{succeeded}' AND step = 1;

-- another update
-- steps: the column update_data
UPDATE steps SET update_data = '{"plan":[]}' WHERE session_id = '{succeeded}' AND step = 1;

-- an error
-- steps: the column error
UPDATE steps SET error = 'it was the network' WHERE session_id = '{succeeded}' AND step = 1;

-- no error
-- steps: the column error
UPDATE steps SET error = NULL WHERE session_id = '{failed}' AND step = 1;

-- another question
-- steps: the column question
UPDATE steps SET question = '"may I not?"' WHERE session_id = '{waiting}' AND step = 1;

-- another answer
-- steps: the column answer
UPDATE steps SET answer = '"no"' WHERE session_id = '{answered}' AND step = 1;

-- another schema of the answer
-- steps: the column answer_schema
UPDATE steps SET answer_schema = '{}' WHERE session_id = '{waiting}' AND step = 1;

-- more failures
-- steps: 3 failures and 0 losses
UPDATE steps SET failures = 3 WHERE session_id = '{succeeded}' AND step = 1;

-- more losses
-- steps: 0 failures and 1 losses
UPDATE steps SET lost = 1 WHERE session_id = '{succeeded}' AND step = 1;

-- another beginning
-- steps: the column started_at
UPDATE steps SET started_at = started_at - interval '1 day' WHERE session_id = '{succeeded}' AND step = 1;

-- another end
-- steps: the column ended_at
UPDATE steps SET ended_at = ended_at + interval '1 day' WHERE session_id = '{waiting}' AND step = 1;

-- a step deleted
-- steps: step 1: it has no row
DELETE FROM steps WHERE session_id = '{failed}';

-- a step that never was
-- steps: step 2: no event tells of it
INSERT INTO steps (session_id, step, superstep, task_path, agent, queue, status, max_attempts, time_limit_ms)
    VALUES ('{failed}', 2, 1, 'node:x', 'x', 'default', 'queued', 3, 1000);


-- == Artifacts

-- another patch under the same digest
-- artifacts: the content is not what its SHA-256 says
UPDATE artifacts SET content = 'evil' WHERE media_type = 'text/x-diff';

-- another patch under its own digest
-- artifacts: that it names is missing
UPDATE artifacts SET content = 'evil', digest = sha256('evil') WHERE media_type = 'text/x-diff';

-- an artifact deleted
-- artifacts: that it names is missing
DELETE FROM artifacts;

-- an artifact planted
-- artifacts: no event names it
INSERT INTO artifacts (stream_id, digest, media_type, content)
    VALUES ('{failed}', sha256('evil'), 'application/json', 'evil');

-- an artifact that is served as a page
-- artifacts: its media type is 'text/html'
UPDATE artifacts SET media_type = 'text/html';


-- == Keys

-- more scopes
-- keys: the column scopes
UPDATE keys SET scopes = '{admin}' WHERE name = 'reader';

-- a revocation undone
-- keys: the column revoked_at
UPDATE keys SET revoked_at = NULL;

-- a revocation that never was
-- keys: the column revoked_at
UPDATE keys SET revoked_at = created_at;

-- a later end
-- keys: the column expires_at
UPDATE keys SET expires_at = NULL;

-- another maker
-- keys: the column created_by
UPDATE keys SET created_by = 'mallory';

-- another age
-- keys: the column created_at
UPDATE keys SET created_at = created_at - interval '1 day';

-- another name
-- keys: the column name
UPDATE keys SET name = 'x' WHERE name = 'reader';

-- another secret
-- keys: the column digest
UPDATE keys SET digest = sha256('mine') WHERE name = 'reader';

-- no successor
-- keys: the column successor
UPDATE keys SET successor = NULL;

-- keys whose end nobody can read, the chain anew
-- columns: it is not a control_event as the log has them
SELECT reword(operators(), '"expires_at":"', '"expires_at":"x'), rechain(operators());

-- a key deleted
-- keys: was made, and is not there
DELETE FROM keys WHERE name = 'reader';

-- a key planted
-- keys: no event says that 'mallory' was made
INSERT INTO keys (key_id, name, project, scopes, digest, created_by)
    VALUES (gen_random_uuid(), 'mallory', 'default', '{admin}', sha256('mine'), 'owner');

-- keys of another project
-- keys: was made, and is not there
UPDATE keys SET project = 'another';


-- == Whole streams

-- a session deleted whole
-- control: it was submitted, and is not there
SELECT vanish('{failed}');

-- a session deleted whole, seen by its head
-- heads: it is gone; it was at
SELECT vanish('{failed}');

-- a session deleted, and what operators say of it, their chain anew
-- heads: it is gone; it was at
SELECT vanish('{failed}'), reword(operators(), '{failed}', '{succeeded}'), rechain(operators());

-- what operators did written anew
-- heads: it was written anew
SELECT reword(operators(), '"principal":"owner"', '"principal":"mallory"'), rechain(operators());

-- the operators' stream deleted
-- heads: it is gone; it was at
SELECT vanish(operators());

-- keys without operators
-- strays: no stream says who made them
SELECT vanish(operators());

-- a session planted whole
-- control: no event of the operators' stream says that it was submitted
INSERT INTO streams SELECT '01890a5d-ac96-774b-bcce-b302099a8057', kind, head, head_chain, earliest, last_ts,
    closed, status, project, workflow_name FROM streams WHERE stream_id = '{created}';
INSERT INTO events (stream_id, "offset", position, xid, epoch, ts, t, agent, phase, step, attempt,
    dedupe_key, data, salt, digest, chain)
    SELECT '01890a5d-ac96-774b-bcce-b302099a8057', "offset", position + 5000, (xid::text::bigint +
    5000)::text::xid8, epoch, ts, t, agent, phase, step, attempt, NULL, data, salt, digest, chain
    FROM events WHERE stream_id = '{created}';
INSERT INTO sessions SELECT (json_populate_record(x, '{"session_id":"01890a5d-ac96-774b-bcce-b302099a8057"}')).*
    FROM sessions x WHERE session_id = '{created}';
SELECT rechain('01890a5d-ac96-774b-bcce-b302099a8057');

-- a stream without its row
-- strays: there are events, and no stream
DELETE FROM streams WHERE stream_id = '{failed}';

-- steps of no session
-- strays: but rows in `steps`
UPDATE steps SET session_id = gen_random_uuid() WHERE session_id = '{failed}';

-- a session of no stream
-- strays: but a row in `sessions`
DELETE FROM streams WHERE stream_id = '{created}';

-- artifacts of no stream
-- strays: but artifacts
UPDATE artifacts SET stream_id = gen_random_uuid();

-- a second stream of heads
-- strays: a kind that it cannot have
UPDATE streams SET kind = 'heads' WHERE stream_id = '{failed}';

-- a session that is hidden as operators' stream
-- stream: holds a session_event
UPDATE streams SET kind = 'operators' WHERE stream_id = '{failed}';

-- a session that is hidden as batch
-- stream: holds a session_event
UPDATE streams SET kind = 'batch' WHERE stream_id = '{failed}';

-- a stream that is open again
-- stream: the stream is open
UPDATE streams SET closed = false;

-- another status of the stream
-- stream: its last session_event says
UPDATE streams SET status = 'failed' WHERE stream_id = '{succeeded}';

-- a stream that was silent for a year
-- stream: the column last_ts
UPDATE streams SET last_ts = last_ts - interval '1 year';

-- another workflow of the stream
-- session: the session's workflow_name
UPDATE streams SET workflow_name = 'other';

-- another chain at head
-- chain: the chain at head
UPDATE streams SET head_chain = sha256('') WHERE stream_id = '{failed}';

-- an earlier head
-- offsets: stands outside of 1 …
UPDATE streams SET head = head - 1 WHERE stream_id = '{failed}';

-- a later head
-- offsets: missing at the end
UPDATE streams SET head = head + 1 WHERE stream_id = '{failed}';

-- an event of the stream of heads taken out of its middle, its chain anew
-- heads: goes on after
DELETE FROM events WHERE t = 'heads_event' AND "offset" = 2;
UPDATE events SET "offset" = "offset" - 1 WHERE t = 'heads_event' AND "offset" > 2;
SELECT rechain(stream_id) FROM streams WHERE kind = 'heads';

-- heads of streams that cannot be
-- heads: is not what records heads
SELECT reword(stream_id, '"stream_id":"', '"stream_id":"x'), rechain(stream_id) FROM streams WHERE kind = 'heads';

-- a beginning before the first event
-- stream: the column earliest is -5
UPDATE streams SET earliest = -5 WHERE stream_id = '{failed}';

-- heads that are no heads
-- heads: is not what records heads
SELECT reword(stream_id, '"until"', '"untli"'), rechain(stream_id) FROM streams WHERE kind = 'heads';

-- a sign-out of browsers that is forgotten: cookies from before it hold again
-- keys: browsers were signed out 1 time(s), and 0 are counted
DELETE FROM sign_outs;

-- a sign-out that nobody asked for
-- keys: browsers were signed out 1 time(s), and 2 are counted
UPDATE sign_outs SET count = count + 1;

-- another path than one that looks like a key
-- session: the column path
UPDATE sessions SET path = '/another' WHERE session_id = '{named}';

-- another repository, of whose name the event hides a part
-- session: the column repo
UPDATE sessions SET repo = 'https://example.com/sk-learn-experiments-2024.git' WHERE session_id = '{hidden}';

-- another name of a key, of which the event hides a part
-- keys: the column name
UPDATE keys SET name = name || ' or another' WHERE name LIKE 'sk-learn%';
