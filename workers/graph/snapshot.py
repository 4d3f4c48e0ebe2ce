"""A snapshot: where a session's graph stands between two supersteps, as bytes.

It is the checkpoint that LangGraph makes before a superstep, and what has to go along with it. Its parts are
written one by one, so that a step that was sent need not read what its siblings were sent.
"""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.types import Send
from langgraph.version import __version__ as langgraph_version

from app.errors import SnapshotVersionMismatch, UnstorableValue
from workers.graph.loading import LoadedWorkflow
from workers.graph.serializer import ExactSerializer

FORMAT = 2
"""Rises when snapshots of before can no longer be read."""

SENDS = "__pregel_tasks"
_STATE: tuple[Literal["channel_values", "channel_versions", "versions_seen"], ...] = (
    "channel_values",
    "channel_versions",
    "versions_seen",
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot was written by, and for which session."""

    workflow: str
    version: str
    session_id: str
    langgraph: str = langgraph_version
    format: int = FORMAT


@dataclass(slots=True)
class Snapshot:
    header: Header
    serializer: ExactSerializer
    stop: int
    """The superstep after which LangGraph's recursion limit ends the run, as LangGraph counts them."""
    open_tasks: Mapping[str, str] = field(default_factory=dict)
    """The nodes of the superstep that is open, by path."""
    kept: bytes = b""
    """The state of subgraphs with `checkpointer=True`, by namespace."""
    _checkpoint: bytes = b""
    _metadata: bytes = b""
    _sends: list[bytes] = field(default_factory=list)

    @classmethod
    def empty(cls, workflow: LoadedWorkflow, session_id: str, *, stop: int) -> "Snapshot":
        return cls(Header(workflow.name, workflow.version, session_id), workflow.serializer, stop)

    @classmethod
    def after(cls, workflow: LoadedWorkflow, session_id: str, state: Mapping[str, Any], *, limit: int) -> "Snapshot":
        """Where a session begins that goes on from the `final_state` of another one."""
        snapshot = cls.empty(workflow, session_id, stop=state["step"] + 2 + limit)
        checkpoint = empty_checkpoint()
        for part in _STATE:
            checkpoint[part] = state[part]
        snapshot.take(checkpoint, {"source": "loop", "step": state["step"], "parents": {}})
        snapshot.kept = state["kept"]
        return snapshot

    def final_state(self, *, forgets: Set[str]) -> dict[str, Any]:
        """What another session may go on from, nothing being open; `forgets` are channels whose values end here."""
        checkpoint = self.checkpoint()
        for name in forgets:
            checkpoint["channel_values"].pop(name, None)
        state: dict[str, Any] = {part: checkpoint[part] for part in _STATE}
        return {**state, "step": self.superstep, "kept": self.kept}

    @property
    def is_empty(self) -> bool:
        return not self._checkpoint

    @property
    def superstep(self) -> int:
        """The last that was finished, counted from 1; 0 at the beginning."""
        step: int = self.metadata()["step"]
        return step

    def take(self, checkpoint: Checkpoint, metadata: CheckpointMetadata) -> None:
        """Takes over what LangGraph has to save.

        The checkpoint's id, of which those of tasks and questions are derived, is the same in every fold of one log.
        """
        values = dict(checkpoint["channel_values"])
        sends = values.pop(SENDS, [])
        checkpoint_id = _derived_id(self.header.session_id, metadata["step"])
        self._checkpoint = self.serializer.dumps({**checkpoint, "id": checkpoint_id, "channel_values": values})
        self._metadata = self.serializer.dumps(metadata)
        self._sends = [self.serializer.dumps(send) for send in sends]

    def keep(self, kept: bytes) -> None:
        """Takes over what a step has kept, in the place of what was there."""
        if kept:
            before = self.serializer.loads(self.kept) if self.kept else []
            merged = dict(before) | dict(self.serializer.loads(kept))
            self.kept = self.serializer.dumps([[name, merged[name]] for name in sorted(merged)])

    def checkpoint(self) -> Checkpoint:
        """Without what was sent."""
        checkpoint: Checkpoint = self.serializer.loads(self._checkpoint)
        return checkpoint

    def metadata(self) -> CheckpointMetadata:
        metadata: CheckpointMetadata = self.serializer.loads(self._metadata)
        return metadata

    def sends(self) -> list[Send]:
        return [self.serializer.loads(send) for send in self._sends]

    def send(self, place: int) -> Send:
        send: Send = self.serializer.loads(self._sends[place])
        return send

    def dumps(self) -> bytes:
        header = self.header
        return self.serializer.dumps(
            [
                [header.format, header.langgraph, header.workflow, header.version, header.session_id],
                self.stop,
                dict(self.open_tasks),
                self.kept,
                self._checkpoint,
                self._metadata,
                self._sends,
            ]
        )

    @classmethod
    def loads(cls, workflow: LoadedWorkflow, dumped: bytes) -> "Snapshot":
        """Raises SnapshotVersionMismatch for what another workflow, version, LangGraph or release wrote."""
        try:
            (form, langgraph, name, version, session_id), *parts = workflow.serializer.loads(dumped)
        except (ValueError, TypeError, UnstorableValue) as error:
            raise SnapshotVersionMismatch(f"the snapshot cannot be read: {error}") from error
        found, expected = (
            Header(name, version, session_id, langgraph, form),
            Header(workflow.name, workflow.version, session_id),
        )
        for what in ("format", "workflow", "version", "langgraph"):
            if (have := getattr(found, what)) != (want := getattr(expected, what)):
                raise SnapshotVersionMismatch(f"the snapshot's {what} is {have}, this worker's is {want}")
        return cls(found, workflow.serializer, *parts)


def _derived_id(session_id: str, step: int) -> str:
    return str(UUID(bytes=hashlib.sha256(f"{session_id}/{step}".encode()).digest()[:16], version=5))
