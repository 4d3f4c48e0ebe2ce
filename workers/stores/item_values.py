"""Values of items as they are stored, and LangGraph's store in memory for what it does best: filters and scores."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import orjson
from langgraph.store.base import IndexConfig, Item, PutOp, SearchItem, SearchOp
from langgraph.store.memory import InMemoryStore

from app.errors import UnstorableValue
from workers.graph.codec import Codec
from workers.stores.item_repository import Id, Row, Write


def encoded(value: Mapping[str, Any], codec: Codec) -> str:
    """JSON. Raises UnstorableValue."""
    try:
        return codec.stored(dict(value)).decode()
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise UnstorableValue(f"the value cannot be stored: {error}") from error


def item(row: Row, codec: Codec) -> Item:
    return Item(**_fields(row, codec))


def search_item(row: Row, codec: Codec) -> SearchItem:
    return SearchItem(**_fields(row, codec))


def _fields(row: Row, codec: Codec) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "key": row.key,
        "value": codec.decode(orjson.loads(row.value)),
        "created_at": row.created_at.astimezone(UTC),
        "updated_at": row.updated_at.astimezone(UTC),
    }


def filtered(rows: Sequence[Row], op: SearchOp, codec: Codec) -> list[SearchItem]:
    """The items that the operation's filter lets through, in their order."""
    found: list[SearchItem] = _in_memory(rows, codec).batch([op._replace(query=None, offset=0, limit=len(rows))])[0]  # type: ignore[assignment]  # a search's result
    return found


async def scored(rows: Sequence[Row], op: SearchOp, index: IndexConfig, codec: Codec) -> list[SearchItem]:
    """What the operation finds among the items, by the likeness of their vectors to its query."""
    (found,) = await _in_memory(rows, codec, index).abatch([op])
    return found  # type: ignore[return-value]  # a search's result


async def writes(ops: Iterable[PutOp], index: IndexConfig | None, codec: Codec) -> dict[Id, Write]:
    """What is to be written, the last one of each key. Raises UnstorableValue."""
    last = {(op.namespace, op.key): op for op in ops}
    values = {id_: None if op.value is None else encoded(op.value, codec) for id_, op in last.items()}
    vectors = await _vectors(list(last.values()), index) if index else {}
    return {id_: Write(value, vectors.get(id_, {})) for id_, value in values.items()}


async def _vectors(ops: Sequence[PutOp], index: IndexConfig) -> dict[Id, dict[str, list[float]]]:
    memory = InMemoryStore(index=index)
    await memory.abatch(ops)
    return vectors_in(memory)


def vectors_in(memory: InMemoryStore) -> dict[Id, dict[str, list[float]]]:
    return {
        (namespace, key): {path: [float(number) for number in vector] for path, vector in paths.items()}
        for namespace, keys in memory._vectors.items()
        for key, paths in keys.items()
    }


def _in_memory(rows: Sequence[Row], codec: Codec, index: IndexConfig | None = None) -> InMemoryStore:
    memory = InMemoryStore(index=index)
    for row in rows:
        memory._data[row.namespace][row.key] = item(row, codec)
        if row.vectors:
            memory._vectors[row.namespace][row.key] = row.vectors
    return memory
