"""LangGraph's checkpoint saver over one value: the latest checkpoint of each namespace, as bytes.

A snapshot is a cache of the fold and never a history, so nothing but the latest checkpoint and its pending
writes is kept. `checkpoint_ns` tells subgraphs apart.
"""

import copy
from collections.abc import Sequence
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
from langgraph.version import __version__ as langgraph_version

from app.errors import SnapshotVersionMismatch, UnstorableValue
from workers.graph.copies import Graph
from workers.graph.loading import LoadedWorkflow
from workers.graph.serializer import ExactSerializer

FORMAT = 1
"""Rises when snapshots of before can no longer be read."""

_ERROR, _INTERRUPT = "__error__", "__interrupt__"


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot was written by, and for which session."""

    workflow: str
    version: str
    session_id: str
    langgraph: str = langgraph_version
    format: int = FORMAT


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


class SnapshotSaver(BaseCheckpointSaver[int]):
    def __init__(self, header: Header, serializer: ExactSerializer) -> None:
        super().__init__(serde=serializer)
        self.header = header
        self._serializer = serializer
        self._namespaces: dict[str, _Namespace] = {}

    @classmethod
    def opened(cls, workflow: LoadedWorkflow, snapshot: bytes | None, *, session_id: str = "") -> "SnapshotSaver":
        """An empty one, or one that holds `snapshot`; raises SnapshotVersionMismatch."""
        header = Header(workflow.name, workflow.version, session_id)
        if snapshot is None:
            return cls(header, workflow.serializer)
        return cls.loads(snapshot, header, workflow.serializer)

    def dumps(self) -> bytes:
        header = self.header
        return self._serializer.dumps(
            [
                [header.format, header.langgraph, header.workflow, header.version, header.session_id],
                [
                    [name, held.checkpoint_id, held.checkpoint, held.metadata, list(held.pending.items())]
                    for name, held in self._namespaces.items()
                ],
            ]
        )

    @classmethod
    def loads(cls, snapshot: bytes, expected: Header, serializer: ExactSerializer) -> "SnapshotSaver":
        """Raises SnapshotVersionMismatch for what another workflow, version, LangGraph or release wrote."""
        try:
            (form, langgraph, workflow, version, session_id), namespaces = serializer.loads(snapshot)
        except (ValueError, TypeError, UnstorableValue) as error:
            raise SnapshotVersionMismatch(f"the snapshot cannot be read: {error}") from error
        found = Header(workflow, version, session_id, langgraph, form)
        for name in ("format", "workflow", "version", "langgraph"):
            if (have := getattr(found, name)) != (want := getattr(expected, name)):
                raise SnapshotVersionMismatch(f"the snapshot's {name} is {have}, this worker's is {want}")
        saver = cls(found, serializer)
        saver._namespaces = {
            name: _Namespace(checkpoint_id, checkpoint, metadata, {checkpoint_id: dict(writes)})
            for name, checkpoint_id, checkpoint, metadata, writes in namespaces
        }
        return saver

    def attached_to(self, graph: Graph) -> Graph:
        """The compiled graph with this saver; the graph itself is shared and stays as it is."""
        attached = copy.copy(graph)
        attached.checkpointer = self
        return attached

    def interrupts(self) -> list[Interrupt[Any]]:
        """All that stand in the pending writes, in an order that is the same in every run.

        Sorted by the names in the namespace and by the task's path, not by ids, which are random.
        """
        found = [
            (_place(name), path, interrupts)
            for name, held in self._namespaces.items()
            for path, channel, value in held.pending.values()
            if channel == _INTERRUPT
            for interrupts in [self._serializer.loads(value)]
        ]
        found.sort(key=lambda item: item[:2])
        return [interrupt for _, _, interrupts in found for interrupt in interrupts]

    def channel_values(self) -> dict[str, Any]:
        """The latest checkpoint's, of the graph itself."""
        held = self._namespaces.get("")
        values: dict[str, Any] = self._serializer.loads(held.checkpoint)["channel_values"] if held else {}
        return values

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        name = config["configurable"].get("checkpoint_ns", "")
        held = self._namespaces.get(name)
        wanted = config["configurable"].get("checkpoint_id")
        if held is None or not held.checkpoint or (wanted and wanted != held.checkpoint_id):
            return None
        in_order = sorted(held.pending.items(), key=lambda item: writes_sort_key(item[1][0], *item[0]))
        return CheckpointTuple(
            config=_address(config, name, held.checkpoint_id),
            checkpoint=self._serializer.loads(held.checkpoint),
            metadata=self._serializer.loads(held.metadata),
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
        name = config["configurable"].get("checkpoint_ns", "")
        # Written at once: nodes and reducers may go on to change the very objects that the state holds.
        held = self._namespaces.setdefault(name, _Namespace())
        held.checkpoint_id = checkpoint["id"]
        held.checkpoint = self._serializer.dumps(checkpoint)
        held.metadata = self._serializer.dumps(metadata)
        held.writes = {held.checkpoint_id: held.pending}
        return _address(config, name, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        held = self._namespaces.setdefault(config["configurable"].get("checkpoint_ns", ""), _Namespace())
        stored = held.writes.setdefault(config["configurable"]["checkpoint_id"], {})
        for place, (channel, value) in enumerate(writes):
            # What raised is given to the caller, and the snapshot of a failed fold is dropped.
            if channel != _ERROR:
                index = WRITES_IDX_MAP.get(channel, place)
                stored[task_id, index] = (task_path, channel, self._serializer.dumps(value))

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

    def with_allowlist(self, extra_allowlist: Any) -> "SnapshotSaver":
        return self  # the serializer has its own, and is always strict


def _place(namespace: str) -> tuple[int, list[str]]:
    """Innermost first, where a question of a subgraph stands once; without the tasks' random ids."""
    names = [part.partition(":")[0] for part in namespace.split("|")] if namespace else []
    return -len(names), names


def _address(config: RunnableConfig, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": config["configurable"].get("thread_id", ""),
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }
