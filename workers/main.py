"""celery -A workers.main worker"""

import gc

gc.disable()  # until the end of this file: nothing of what is imported is garbage, and looking for it takes a tenth

import logging
import os
from typing import Any

from celery import Celery, bootsteps, signals
from kombu import Consumer, Queue

from app.config import settings
from app.known_secrets import Secrets
from app.logging import configure_logging
from app.privacy import NOT_FOR_WORKERS, be_private, without
from app.sessions.dispatch import ADVANCE_QUEUE, broker_options, is_redis, queue_arguments
from workers.graph.loading import load_workflows
from workers.process.broker import TRANSPORT
from workers.process.pool import RESERVED_THREADS
from workers.process.runtime import Addresses, Runtime
from workers.tasks import add_tasks
from workers.workflow import DEFAULT_QUEUE

be_private(forget=NOT_FOR_WORKERS)
_settings = without(settings(), NOT_FOR_WORKERS)
_workflows = load_workflows(_settings.workflows, _settings.allowed_state_types, Secrets.of(_settings))
_runtime = Runtime(_settings, _workflows)
_queues = {DEFAULT_QUEUE}.union(*(workflow.queues for workflow in _workflows.served.values()))


class RuntimeStep(bootsteps.StartStopStep):
    """The event loop lives from before the first message until after the last."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        _runtime.start()

    def stop(self, parent: Any) -> None:
        _runtime.stop()

    terminate = stop


class AdvanceConsumer(bootsteps.ConsumerStep):
    """Consumes advance_session on a channel of its own, which the limit on running steps does not stop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        self.on_message = parent.create_task_handler()
        super().start(parent)

    def get_consumers(self, channel: Any) -> list[Consumer]:
        queue = Queue(ADVANCE_QUEUE, queue_arguments=queue_arguments(Addresses.of(_settings).broker))
        consumer = Consumer(channel, queues=[queue], on_message=self.on_message, accept=["json"])
        consumer.qos(prefetch_count=RESERVED_THREADS)  # the backlog stays in the broker
        return [consumer]


def create_app() -> Celery:
    celery = Celery("stellwerk")
    broker_url = Addresses.of(_settings).broker
    celery.conf.update(
        **broker_options(broker_url),
        broker_transport=TRANSPORT if is_redis(broker_url) else None,
        task_queues=[Queue(name, queue_arguments=queue_arguments(broker_url)) for name in sorted(_queues)],
        task_create_missing_queues=True,
        worker_pool="workers.process.pool:TaskPool",
        worker_concurrency=_settings.concurrency,
        # Acknowledged at the start: a step that is lost is found by its lease. Late acknowledgements on Redis run
        # every task again that takes longer than the visibility timeout.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a message that waits in a busy worker would wait for nothing
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    celery.steps["worker"].add(RuntimeStep)
    celery.steps["consumer"].add(AdvanceConsumer)
    add_tasks(celery, _runtime)
    return celery


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(_settings)


@signals.worker_shutdown.connect
def _end(sender: Any, **_: Any) -> None:
    """Everything is given back and closed; what is left is threads of agents that never return."""
    logging.shutdown()
    os._exit(sender.exitcode or 0)


app = create_app()
gc.freeze()  # what stays until the end of the process need not be looked at again
gc.enable()
