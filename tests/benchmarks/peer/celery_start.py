"""A bare Celery task: how long a message takes from being sent until it runs. `celery -A celery_start worker`"""

import os
import time

from celery import Celery
from redis import Redis

app = Celery("bench", broker=os.environ["BROKER"])
app.conf.task_ignore_result = True
begun = Redis.from_url(os.environ["BROKER"])


@app.task
def begin(sent: float) -> None:
    begun.rpush("begun", str(time.time() - sent))
