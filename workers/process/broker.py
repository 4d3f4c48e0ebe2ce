"""Redis as Celery's broker, except that what cannot be read does not end the worker.

kombu lets an error in one message out of its loop, and Celery takes every error there that is no lost connection for
the end.
"""

from collections.abc import Callable
from typing import Any

import structlog
from kombu.message import Message
from kombu.transport import redis

logger = structlog.get_logger(__name__)

TRANSPORT = f"{__name__}:Transport"
"""As Celery's setting `broker_transport` names it."""
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What kombu raises for a message that it did not write. All errors of connections are others."""


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> bool | None:
        try:
            return bool(super()._brpop_read(**options))  # type: ignore[misc]  # its types leave out what is not public
        except UNREADABLE as error:
            logger.warning("a message that cannot be read was dropped from a queue", error=repr(error))
            return None

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[..., Any] | None, consumer_tag: str | None, **options: Any
    ) -> str:
        assert callback is not None

        def take(message: Message) -> None:
            try:
                callback(message)
            except UNREADABLE as error:
                logger.warning("a message that is no task was dropped from a queue", queue=queue, error=repr(error))
                if not message.acknowledged:  # else it would take a place of those that may be under way for ever
                    message.reject()

        tag: str = super().basic_consume(queue, no_ack, take, consumer_tag, **options)
        return tag


class Transport(redis.Transport):
    Channel = Channel
