"""How a run ended, and in what two ends may differ: the random ids of messages, up to renaming."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import commonpath
from typing import Any, Final

from tests.fuzz.world import RouterBroke

_AROUND: Final = 200
_RANDOM_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# A message that a node writes to two channels: plain LangGraph makes two of it where a question stops the run.
_SHARED_ID = re.compile(
    rf"(<\w+ |content='[^']* says the same'[^)]*? id='){_RANDOM_ID.pattern}(?=: [^>]* says the same>|')"
)


@dataclass
class Ending:
    values: Any = None
    output: Any = None
    errors: set[str] = field(default_factory=set)
    """Types of what ended the run: of all steps of the superstep that failed, one of which plain LangGraph raises."""
    questions: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    """After an error only those of the graph's own nodes in the supersteps before."""
    raised: list[BaseException] = field(default_factory=list)

    def broke(self, error: BaseException) -> None:
        self.errors.add(type(error).__name__)
        self.raised.append(error)

    def texts(self) -> dict[str, str]:
        """In a form that can be compared."""
        if self.errors:
            return {"calls": shown(self.calls)}
        both = f"{self.values!r}\n{self.output!r}"
        end = renamed(_SHARED_ID.sub(r"\1shared", both) if self.questions else both).split("\n")
        return {
            "state": end[0],
            "output": end[-1],
            "questions": shown(self.questions),
            "calls": shown(self.calls),
        }


def renamed(text: str) -> str:
    """`text` with its random ids as numbers, in the order in which they first come."""
    names: dict[str, str] = {}
    return _RANDOM_ID.sub(lambda found: names.setdefault(found[0], f"id-{len(names) + 1}"), text)


def shown(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{count} x {text}" for text, count in sorted(counts.items()))


def without_ids(text: str) -> str:
    return _RANDOM_ID.sub("an-id", text)


def differences(ours: Ending, plain: Ending) -> list[str]:
    """One line for each thing in which they differ; none if they ended alike."""
    # Plain LangGraph runs routers with the nodes, so one may raise before a node that runs beside it.
    if bool(ours.errors) != bool(plain.errors) or not plain.errors <= ours.errors | {RouterBroke.__name__}:
        return [f"errors: ours {sorted(ours.errors)}, plain {sorted(plain.errors)}"]
    theirs = plain.texts()
    return [
        f"{name}:\n  ours  {excerpt(text, theirs[name])}\n  plain {excerpt(theirs[name], text)}"
        for name, text in ours.texts().items()
        if text != theirs[name]
    ]


def excerpt(text: str, other: str) -> str:
    """The part of `text` where it begins to differ."""
    same = len(commonpath([text, other]))
    return text[max(0, same - _AROUND) : same + _AROUND]
