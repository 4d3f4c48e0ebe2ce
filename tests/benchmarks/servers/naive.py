"""A stream for each client with sse-starlette, as it is usually written: a subscription each, a dict a frame."""

import os
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from redis.asyncio import Redis
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, max_connections=10_000)


async def frames(channel: str) -> AsyncIterator[dict[str, Any]]:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        offset = 0
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                yield {"comment": "hello"}
            else:
                offset += 1
                yield {"id": str(offset), "event": "agent", "data": message["data"]}


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(frames(request.query_params["channel"]), sep="\n")


if __name__ == "__main__":
    app = Starlette(routes=[Route("/events", events)])
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
