"""The doorbells: Celery messages by task name. A lost one costs time only; the rescuer rings again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.progress import SessionId

logger = structlog.get_logger(__name__)

ADVANCE_SESSION = "stellwerk.advance_session"
RUN_STEP = "stellwerk.run_step"
ADVANCE_QUEUE = "advance"
DEFAULT_QUEUE = "default"
SOCKET_TIMEOUT_SECONDS = 5
MAX_WAITING = 10_000
CLOSE_SECONDS = 2.0


def broker_options(broker_url: str) -> dict[str, Any]:
    """Celery's settings that the sender and the worker share."""
    options: dict[str, Any] = {
        "broker_url": broker_url,
        "broker_connection_timeout": SOCKET_TIMEOUT_SECONDS,
        "broker_connection_retry_on_startup": True,
        "task_ignore_result": True,
        "task_default_queue": DEFAULT_QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
    }
    if is_redis(broker_url):
        options["broker_transport_options"] = {
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }
    else:
        options["task_default_queue_type"] = "quorum"
    return options


def is_redis(broker_url: str) -> bool:
    return broker_url.startswith(("redis://", "rediss://"))


def queue_arguments(broker_url: str) -> dict[str, str]:
    """RabbitMQ's queues are quorum queues; Redis has no kinds of queues."""
    return {} if is_redis(broker_url) else {"x-queue-type": "quorum"}


class Dispatch:
    """Sends without making the caller wait: a broker that is away must not hold up a transaction's caller."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("stellwerk", set_as_current=False)
        self._celery.conf.update(broker_options(broker_url))
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dispatch")
        self._room = BoundedSemaphore(MAX_WAITING)

    def advance_session(self, session_id: SessionId) -> None:
        self._submit(
            lambda: self._celery.send_task(
                ADVANCE_SESSION, args=[str(session_id)], queue=ADVANCE_QUEUE, retry=False, ignore_result=True
            )
        )

    def run_step(self, session_id: SessionId, step: int, attempt: int, *, queue: str, agent: str) -> None:
        # Celery discards ids that were revoked, so the attempt belongs into the id.
        self._submit(
            lambda: self._celery.send_task(
                RUN_STEP,
                args=[str(session_id), step, attempt, agent],
                task_id=f"{session_id}:{step}:{attempt}",
                queue=queue,
                retry=False,
                ignore_result=True,
            )
        )

    def _submit(self, send: Callable[[], object]) -> None:
        if not self._room.acquire(blocking=False):
            logger.warning("too many messages wait for the broker; the rescuer will send this one")
            return

        def run() -> None:
            try:
                send()
            except (OperationalError, RedisError, OSError) as error:
                logger.warning("message not sent; the rescuer will send it", error=str(error))
            finally:
                self._room.release()

        self._executor.submit(run)

    def close(self) -> None:
        """What waits is sent, if the broker is there to take it: a step that was just given back has to ring."""
        with suppress(TimeoutError):
            self._executor.submit(lambda: None).result(CLOSE_SECONDS)
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._celery.close()
