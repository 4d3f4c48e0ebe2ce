"""The serializer of states and updates: what comes back equals what went in, in value and in type.

LangGraph's own serializer turns tuples into lists and unknown types into plain dicts, in silence. A fold
that is repeated from the log must not do that, so all but the simplest single values are written here. What
cannot be kept is refused when it is written, with its place in the value. Nothing is imported or called by
name on reading: see classes. What has no order is written in one, since each process has another.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from app.errors import UnstorableValue
from app.known_secrets import NO_SECRETS, Secrets
from workers.graph import sealed
from workers.graph.classes import StateClasses
from workers.graph.places import located
from workers.graph.reader import Reader
from workers.graph.writer import Form, Writer, too_deep


class ExactSerializer(SerializerProtocol):
    """Writes values of the built-in types, of LangGraph's, of `types` and of classes that all workers have."""

    def __init__(self, types: Iterable[type] = (), secrets: Secrets = NO_SECRETS) -> None:
        self._classes = StateClasses(types)
        self.secrets = secrets
        self._forms: dict[type, Form] = {}

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "msgpack", self.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.loads(data[1])

    def dumps(self, value: Any, depth: int = 0) -> bytes:
        """Raises UnstorableValue, which says where in the value stands what cannot be kept.

        `depth` is how deep the value stands in what it is a part of.
        """
        try:
            return self.written(value, depth)
        except UnstorableValue as refusal:
            raise located(refusal, value, partial(self.written, depth=depth)) from None

    def written(self, value: Any, depth: int) -> bytes:
        """As `dumps`, but a refusal does not say where, for those who locate it in something larger."""
        try:
            return sealed.with_names(Writer(self._classes, self._forms, depth).packed(value), self.secrets)
        except RecursionError as error:
            raise too_deep() from error

    def loads(self, data: bytes) -> Any:
        """Raises UnstorableValue for a type that is not allowed, UnknownSecret, and ValueError for damaged bytes."""
        reader = Reader(self._classes, self.secrets)
        try:
            return reader.unpacked(data)
        except ValueError:
            if reader.refusal is not None:
                raise reader.refusal from None
            raise
