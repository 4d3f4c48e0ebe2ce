"""LangGraph's checkpoint savers over one snapshot: of a fold, and of an attempt.

Only the latest checkpoint of each namespace is kept: a snapshot is a cache of the fold and never a history.
`checkpoint_ns` tells subgraphs apart: the graph itself is "", a subgraph that a task runs has the task's id in
its namespace, and one with `checkpointer=True`, which goes on in later supersteps, has none.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    writes_sort_key,
)
from langgraph.types import Interrupt

from workers.graph.copies import RETURNED, Graph
from workers.graph.serializer import ExactSerializer
from workers.graph.snapshot import SENDS, Snapshot

ROOT = ""
_ERROR, _INTERRUPT = "__error__", "__interrupt__"

# (task, place in the task's writes) -> task path, channel, value
_Writes: TypeAlias = dict[tuple[str, int], tuple[str, str, bytes]]


@dataclass(slots=True)
class _Namespace:
    checkpoint_id: str = ""
    checkpoint: bytes = b""
    metadata: bytes = b""
    # By checkpoint: LangGraph may save the writes of a checkpoint before the checkpoint.
    writes: dict[str, _Writes] = field(default_factory=dict)

    @property
    def pending(self) -> _Writes:
        return self.writes.get(self.checkpoint_id, {})

    def plain(self) -> list[Any]:
        return [self.checkpoint_id, self.checkpoint, self.metadata, list(self.pending.items())]

    @classmethod
    def of(cls, plain: Sequence[Any]) -> "_Namespace":
        checkpoint_id, checkpoint, metadata, writes = plain
        return cls(checkpoint_id, checkpoint, metadata, {checkpoint_id: dict(writes)})


class LatestSaver(BaseCheckpointSaver[int]):
    """What both savers are: no history, and everything at once."""

    def attached_to(self, graph: Graph) -> Graph:
        """The compiled graph with this saver; the graph itself is shared and stays as it is."""
        attached = copy.copy(graph)
        attached.checkpointer = self
        return attached

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)

    def with_allowlist(self, extra_allowlist: Any) -> "LatestSaver":
        return self  # the serializer has its own, and is always strict


class FoldSaver(LatestSaver):
    """Reads and writes the graph's own checkpoint. Nothing is saved between: nodes only give back their results."""

    def __init__(self, snapshot: Snapshot, *, forgets: Set[str] = frozenset()) -> None:
        """`forgets` are channels whose values are left out when the snapshot is read, before it is written."""
        super().__init__(serde=snapshot.serializer)
        self._snapshot = snapshot
        self._forgets = forgets

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if self._snapshot.is_empty:
            return None
        checkpoint = self._snapshot.checkpoint()
        if sends := self._snapshot.sends():
            checkpoint["channel_values"][SENDS] = sends
        for name in self._forgets:
            checkpoint["channel_values"].pop(name, None)
        return CheckpointTuple(_address(config, ROOT, checkpoint["id"]), checkpoint, self._snapshot.metadata())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        # Written at once: nodes and reducers may go on to change the very objects that the state holds.
        self._snapshot.take(checkpoint, metadata)
        self._forgets = frozenset()
        return _address(config, ROOT, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """What is still pending in the end belongs to a fold that failed, and its snapshot is dropped."""


class AttemptSaver(LatestSaver):
    """Gives an attempt its checkpoint, takes what its task wrote, and keeps the namespaces of its subgraphs."""

    def __init__(
        self,
        serializer: ExactSerializer,
        read: Callable[[], tuple[Checkpoint, CheckpointMetadata]],
        *,
        path: str,
    ) -> None:
        """`read` gives a new copy of the graph's own checkpoint; `path` is the task's as LangGraph writes it."""
        super().__init__(serde=serializer)
        self._serializer = serializer
        self._read = read
        self._path = path
        self._namespaces: dict[str, _Namespace] = {ROOT: _Namespace()}
        self._before: dict[str, list[Any]] = {}
        self.writes: list[tuple[str, Any]] | None = None
        """What the task wrote, once it has ended well."""

    def dumps(self) -> bytes:
        """Where the attempt stands: what is pending, and its subgraphs."""
        return self._dumps(self._namespaces)

    def kept(self) -> bytes:
        """The subgraphs that go on in later supersteps, as far as they have changed; empty if none has."""
        return self._dumps(
            name
            for name, held in self._namespaces.items()
            if name != ROOT and ":" not in name and held.plain() != self._before.get(name)
        )

    def load_kept(self, kept: bytes) -> None:
        self.load(kept)
        self._before = {name: held.plain() for name, held in self._namespaces.items()}

    def load(self, dumped: bytes) -> None:
        """Takes over what `dumps` or `kept` gave, in the place of what was there."""
        if dumped:
            self._namespaces |= {name: _Namespace.of(plain) for name, plain in self._serializer.loads(dumped)}

    def _dumps(self, names: Iterable[str]) -> bytes:
        plain = [[name, self._namespaces[name].plain()] for name in sorted(names)]
        return self._serializer.dumps(plain) if plain else b""

    def interrupts(self) -> list[Interrupt[Any]]:
        """All that stand in the pending writes, in an order that is the same in every run.

        A question of a subgraph stands in its namespace and in those around it. Sorted by the tasks' paths, the
        outermost first, then by the names in the namespace; ids are another order in each session.
        """
        places: dict[str, list[tuple[int, list[str], str]]] = defaultdict(list)
        found: dict[str, Interrupt[Any]] = {}
        for namespace, held in self._namespaces.items():
            names = _names(namespace)
            for path, channel, value in held.pending.values():
                if channel == _INTERRUPT:
                    for interrupt in self._serializer.loads(value):
                        found[interrupt.id] = interrupt
                        places[interrupt.id].append((len(names), names, path))

        def order(interrupt_id: str) -> tuple[list[str], list[list[str]]]:
            outermost_first = sorted(places[interrupt_id])
            return [path for _, _, path in outermost_first], [names for _, names, _ in outermost_first]

        return [found[interrupt_id] for interrupt_id in sorted(found, key=order)]

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        name = config["configurable"].get("checkpoint_ns", ROOT)
        held = self._namespaces.get(name)
        if held is None:
            return None
        if name == ROOT:
            checkpoint, metadata = self._read()
            held.checkpoint_id = checkpoint["id"]
        elif held.checkpoint:
            checkpoint, metadata = (self._serializer.loads(part) for part in (held.checkpoint, held.metadata))
        else:
            return None
        if config["configurable"].get("checkpoint_id") not in (None, held.checkpoint_id):
            return None
        in_order = sorted(held.pending.items(), key=lambda item: writes_sort_key(item[1][0], *item[0]))
        return CheckpointTuple(
            config=_address(config, name, held.checkpoint_id),
            checkpoint=checkpoint,
            metadata=metadata,
            pending_writes=[
                (task, channel, self._serializer.loads(value)) for (task, _), (_, channel, value) in in_order
            ],
        )

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        name = config["configurable"].get("checkpoint_ns", ROOT)
        if name != ROOT:  # the graph's own next checkpoint is made by the fold
            held = self._namespaces.setdefault(name, _Namespace())
            held.checkpoint_id = checkpoint["id"]
            held.checkpoint = self._serializer.dumps(checkpoint)
            held.metadata = self._serializer.dumps(metadata)
            held.writes = {held.checkpoint_id: held.pending}
        return _address(config, name, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        name = config["configurable"].get("checkpoint_ns", ROOT)
        if name == ROOT and task_path == self._path and any(channel == RETURNED for channel, _ in writes):
            self.writes = list(writes)
            return
        held = self._namespaces.setdefault(name, _Namespace())
        stored = held.writes.setdefault(config["configurable"]["checkpoint_id"], {})
        for place, (channel, value) in enumerate(writes):
            # What raised is given to the caller.
            if channel != _ERROR:
                index = WRITES_IDX_MAP.get(channel, place)
                stored[task_id, index] = (task_path, channel, self._serializer.dumps(value))


def _names(namespace: str) -> list[str]:
    """Without the tasks' ids."""
    return [part.partition(":")[0] for part in namespace.split("|")] if namespace else []


def _address(config: RunnableConfig, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": config["configurable"].get("thread_id", ""),
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }
