"""Stores with items in them, and what their searches found."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, NamedTuple

from langgraph.store.base import BaseStore, IndexConfig

from app.database import DriverPool
from tests.roles import as_app
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer
from workers.stores.own_loop import OwnLoop


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


CODEC = Codec(ExactSerializer([Colour, Point]))


def embed(texts: Sequence[str]) -> list[list[float]]:
    """How often a text says a, b and c."""
    return [[float(text.count(letter)) for letter in "abc"] for text in texts]


INDEX: IndexConfig = {"dims": 3, "embed": embed, "fields": ["text"]}


@asynccontextmanager
async def worker_on(database_url: str) -> AsyncIterator[OwnLoop]:
    """The loop and the connections of a worker."""
    pool = DriverPool(as_app(database_url))
    yield OwnLoop(pool)
    await pool.close()


async def fill(store: BaseStore, *places: str, **more: Any) -> None:
    """Each place is a namespace and a key, as `users/ann:name`; the value holds its number."""
    for number, place in enumerate(places):
        path, _, key = place.partition(":")
        await store.aput(tuple(path.split("/")), key, {"number": number} | more)


def places(found: list[Any]) -> list[str]:
    return [f"{'/'.join(item.namespace)}:{item.key}" for item in found]
