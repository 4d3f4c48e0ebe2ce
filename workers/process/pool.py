"""Celery's thread pool with threads of its own for advance_session, so long steps never hold up new sessions."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.utils.functional import noop

from app.sessions.dispatch import ADVANCE_SESSION

RESERVED_THREADS = 2


class TaskPool(ThreadPool):
    executor: ThreadPoolExecutor  # the other threads, which Celery makes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reserved = ThreadPoolExecutor(max_workers=RESERVED_THREADS, thread_name_prefix="advance")
        self._hub: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        self._hub = loop

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        if args and args[0] == ADVANCE_SESSION:  # Celery's trace function takes the task's name first
            future = self.reserved.submit(apply_target, target, args, kwargs, callback, accept_callback)
        else:
            future = super().on_apply(target, args, kwargs, callback, accept_callback).f
        future.add_done_callback(self._wake)
        return future

    def _wake(self, done: object) -> None:
        """A full worker asks for no message, and its loop would notice the room only at its next timer."""
        if self._hub is not None:
            self._hub.call_soon(noop)

    def on_stop(self) -> None:
        # Unlike Celery's own: the runtime has stopped before, so what a thread still waits for never comes.
        for threads in (self.reserved, self.executor):
            threads.shutdown(wait=False, cancel_futures=True)
