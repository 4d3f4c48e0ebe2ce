"""Ending tasks that loop for ever."""

import asyncio


def asked_to_end() -> bool:
    """Says whether the current task was cancelled, even if a library swallowed the CancelledError.

    Python 3.11's wait_for, which redis-py and psycopg wait with, does so when the cancellation comes together
    with a result. A loop that did not ask would then go on for ever, and with it every task that awaits its end.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
