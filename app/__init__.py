"""Stellwerk: multi-agent workflows as Celery tasks, on an append-only log. The main path, in order:

gateway/access.py                who asks, and for which project (principals/)
gateway/sessions.py              POST /sessions …
sessions/service.py              … writes the session and its first event (sessions/facts.py), and rings (dispatch.py)
principals/control.py            in the same transaction: who did so
workers/tasks.py                 advance_session, run_step: Celery's side of the bell (workers/process/runtime.py)
workers/steps/advancer.py        folds finished steps (workers/graph/fold.py), queues the next ones (supersteps.py)
workers/steps/runner.py          claims a step's lease, runs its agent, completes it (sessions/attempts.py)
workers/agents/                  the agents; workers/models/: what they ask; progress.py: report_progress()
events/group_commit.py           appends of many agents share one round trip (arrays.py: the call of append_events)
events/push.py                   after the commit: Redis
events/follow/follower.py        catch up from Postgres, then live from Redis
gateway/streaming/               SSE streams, resumed at any cursor, and the feed of all of them (events/feed.py)
events/proof/                    whether a stream is what was written, and a file that proves itself
workers/maintenance/             what was lost on the way is rung again
embedded/, cli/                  servers from wheels, and `stellwerk run`; README.md: the house, its walks, its words
"""
