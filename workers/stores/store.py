"""The store of a project: what LangGraph's InMemoryStore does, for all workers together."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    InvalidNamespaceError,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from app.database import DriverPool
from app.errors import TooManyItems
from workers.graph.codec import Codec
from workers.stores import item_repository as repository
from workers.stores import item_values as values
from workers.stores.item_repository import START, NamespaceMatch, Place, Row
from workers.stores.own_loop import OwnLoop
from workers.stores.seeds import Seeds

NO_SEEDS = Seeds({})
PAGE = 500
MOST_BYTES = 2400
"""Of a key with the labels of its namespace: an index of Postgres takes 2,704 with what it adds."""
PER_TEXT = 8
MOST_SCORED = 20_000
"""A search by meaning reads all items below its namespace, some 10 KB each, into memory."""


class PostgresStore(BaseStore):
    """Answers as InMemoryStore does, orders of results included; values come back equal and of the same types.

    It sees the items of its project alone. Like InMemoryStore it has no time to live.
    """

    __slots__ = ("_codec", "_home", "_project", "_seeds", "index_config")

    # Not langgraph-checkpoint-postgres: its values are plain JSON (a tuple comes back as a list, a date is refused),
    # `$gt` compares texts, results stand in another order, its tables are migrated by itself, and an index needs an
    # extension of Postgres. Who wants it gives it to compile(), and it is used.

    def __init__(
        self,
        home: OwnLoop,
        project: str,
        codec: Codec,
        index: IndexConfig | None = None,
        seeds: Seeds = NO_SEEDS,
    ) -> None:
        """`index` as InMemoryStore takes it."""
        super().__init__()
        self._home = home
        self._project = project
        self._codec = codec
        self._seeds = seeds
        self.index_config = index

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Called on the event loop itself it holds that up; await `abatch` there."""
        return self._home.call(partial(self._batch, [*ops]))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await self._home.run(partial(self._batch, [*ops]))

    async def _batch(self, ops: Sequence[Op], pool: DriverPool) -> list[Result]:
        """Reads see nothing of what the same batch writes; its writes happen together or not at all."""
        for op in ops:
            _check(op)
        await self._seeds.give(pool, self._project)
        results: list[Result] = [None] * len(ops)
        gets = {place: op for place, op in enumerate(ops) if isinstance(op, GetOp)}
        if gets:
            rows = await repository.read(pool, self._project, [(op.namespace, op.key) for op in gets.values()])
            for place, op in gets.items():
                row = rows.get((op.namespace, op.key))
                results[place] = values.item(row, self._codec) if row else None
        for place, op in enumerate(ops):
            if isinstance(op, SearchOp):
                results[place] = await self._search(op, pool)
            elif isinstance(op, ListNamespacesOp):
                results[place] = await self._namespaces(op, pool)
        if puts := [op for op in ops if isinstance(op, PutOp)]:
            await repository.write(pool, self._project, await values.writes(puts, self.index_config, self._codec))
        return results

    async def _search(self, op: SearchOp, pool: DriverPool) -> list[SearchItem]:
        if op.query and self.index_config:
            return await values.scored(await self._all_below(op, pool), op, self.index_config, self._codec)
        if op.filter:
            return await self._filtered(op, pool)
        rows = await repository.page(pool, self._project, op.namespace_prefix, limit=op.limit, offset=op.offset)
        return [values.search_item(row, self._codec) for row in rows]

    async def _filtered(self, op: SearchOp, pool: DriverPool) -> list[SearchItem]:
        found: list[SearchItem] = []
        after: Place | None = START
        while after and len(found) < op.offset + op.limit:
            rows, after = await self._page(op, pool, after)
            found += values.filtered(rows, op, self._codec)
        return found[op.offset : op.offset + op.limit]

    async def _all_below(self, op: SearchOp, pool: DriverPool) -> list[Row]:
        below: list[Row] = []
        after: Place | None = START
        while after:
            rows, after = await self._page(op, pool, after)
            below += rows
            if len(below) > MOST_SCORED:
                raise TooManyItems(
                    f"more than {MOST_SCORED} items are below {op.namespace_prefix}, and a search with a query compares"
                    " all of them; name a narrower namespace, or compile the graph with a store that has an index,"
                    " such as AsyncPostgresStore of langgraph-checkpoint-postgres"
                )
        return below

    async def _page(self, op: SearchOp, pool: DriverPool, after: Place) -> tuple[list[Row], Place | None]:
        """The next rows, and the place of the last one if there may be more."""
        rows = await repository.page(pool, self._project, op.namespace_prefix, limit=PAGE, after=after)
        return rows, rows[-1].place if len(rows) == PAGE else None

    async def _namespaces(self, op: ListNamespacesOp, pool: DriverPool) -> list[tuple[str, ...]]:
        paths: dict[str, list[tuple[str, ...]]] = {"prefix": [], "suffix": []}
        for condition in op.match_conditions or ():
            if condition.match_type not in paths:
                raise ValueError(f"Unsupported match type: {condition.match_type}")
            paths[condition.match_type].append(condition.path)
        match = NamespaceMatch(paths["prefix"], paths["suffix"])
        return await repository.namespaces(
            pool, self._project, match, max_depth=op.max_depth, limit=op.limit, offset=op.offset
        )


def _check(op: Any) -> None:
    """Raises ValueError for what Postgres cannot keep or count, and for what is no operation."""
    match op:
        case GetOp():
            _check_texts(*op.namespace, op.key)
        case PutOp():
            _check_texts(*op.namespace, op.key)
            _check_length(*op.namespace, op.key)
        case SearchOp():
            _check_texts(*op.namespace_prefix)
            _check_numbers(limit=op.limit, offset=op.offset)
        case ListNamespacesOp():
            _check_texts(*(label for condition in op.match_conditions or () for label in condition.path))
            _check_numbers(limit=op.limit, offset=op.offset, max_depth=op.max_depth or 0)
        case _:
            raise ValueError(f"Unknown operation type: {type(op)}")


def _check_texts(*texts: Any) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise InvalidNamespaceError(f"keys and labels of namespaces are strings, but {text!r} is none")
        if "\0" in text or not _encodable(text):
            raise InvalidNamespaceError(
                f"{text!r} cannot be a key or a label of a namespace: Postgres keeps neither NUL nor lone surrogates"
            )


def _check_length(*texts: str) -> None:
    length = sum(len(text.encode()) + PER_TEXT for text in texts)
    if length > MOST_BYTES:
        raise InvalidNamespaceError(
            f"the key that begins with {texts[-1][:40]!r} has {length:,} bytes with its namespace; {MOST_BYTES:,} are"
            f" possible, {PER_TEXT} of which each label and the key take for themselves. Use a digest of it"
        )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name} is {number}; it cannot be negative")
