"""Stellwerk: multi-agent workflows as Celery tasks, on an append-only log. The main path, in order:

gateway/sessions.py         POST /sessions …
sessions/service.py         … writes the session and its first event, and rings
workers/tasks.py            advance_session, run_step: Celery's side of the doorbell
workers/steps/advancer.py         folds finished steps (workers/graph/fold.py), queues the next ones
workers/steps/runner.py           claims a step's lease, runs its agent, completes it (sessions/moves.py)
workers/agents/             the agents; workers/models/: what they ask; progress.py: report_progress()
events/group_commit.py      appends of many agents share one round trip
events/log.py               the SQL on events (calls.py: on those of models); migrations/sql: append_events
events/push.py              after the commit: Redis
events/follow.py            catch up from Postgres, then live from Redis
events/verify.py            whether a stream is what was written; export.py: a file that proves itself
gateway/door.py, stream.py  SSE streams, resumed at any offset
workers/maintenance/          in rounds: lost bells ring again, expired leases end, sessions are admitted (room.py)
embedded/, cli/             servers from wheels, and `stellwerk run`
"""
