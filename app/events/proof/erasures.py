"""What was allowed to go: events that were erased, or removed from a stream's beginning. Pure.

An operator's decision stands in the log before anything goes, as a `control_event` with the outcome `done` whose
`target` is the stream: `events.erase` with `details.offsets`, pairs of a first and a last one, or `events.expire` with
`details.earliest`. It stands in the operators' stream of the project or in the stream itself. Nothing writes these two
yet, so today all that is not there is a fault.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

ERASE, EXPIRE = "events.erase", "events.expire"
ACTIONS = (ERASE, EXPIRE)


class Erasures:
    """Takes control_events, and says what they allow."""

    def __init__(self) -> None:
        self._offsets: dict[str, list[tuple[int, int]]] = {}
        self._earliest: dict[str, int] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        if event.get("action") not in ACTIONS or event.get("outcome") != "done":
            return
        target, details = event.get("target"), event.get("details")
        match event["action"], details:
            case "events.erase", {"offsets": [*pairs]}:
                allowed = [(pair[0], pair[1]) for pair in pairs if _is_pair(pair)]
                self._offsets.setdefault(str(target), []).extend(allowed)
            case "events.expire", {"earliest": int(earliest)}:
                self._earliest[str(target)] = max(earliest, self.earliest(str(target)))
            case _:
                pass  # it allows nothing

    def earliest(self, stream_id: UUID | str) -> int:
        """The offset up to which, exclusive, the stream's events may be gone."""
        return self._earliest.get(str(stream_id), 1)

    def forbidden(self, stream_id: UUID, erased: Iterable[int]) -> list[tuple[int, int]]:
        """Of these offsets, in order, the spans that no event allows to be erased."""
        allowed = self._offsets.get(str(stream_id), [])
        spans: list[tuple[int, int]] = []
        for offset in erased:
            if any(first <= offset <= last for first, last in allowed):
                continue
            if spans and spans[-1][1] == offset - 1:
                spans[-1] = (spans[-1][0], offset)
            else:
                spans.append((offset, offset))
        return spans


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(offset, int) for offset in pair)
