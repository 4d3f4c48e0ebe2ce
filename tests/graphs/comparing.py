"""What one run of a case showed, and how two of them differ.

Values are equal when they are equal and of the same types, all the way down. Random ids are equal when renaming
them makes them so: an id that stands twice in one world stands in the same two places in the other.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from enum import Enum
from itertools import count
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from tests.graphs.cases import Case

NOTHING: Final = "(nothing)"
_RANDOM = re.compile(
    r"(?:lc_run--)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-0)?|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
_ELAPSED = re.compile(r"elapsed: [0-9.]+s")
_PLACE = re.compile(r"at 0x[0-9a-f]+")


class Asked(NamedTuple):
    """A question and what a run answered; `answer` is None where nobody did."""

    node: str
    question: Any
    answer: Any = None


@dataclass
class Seen:
    state: Any = NOTHING
    output: Any = NOTHING
    questions: list[Asked] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    error: str | None = None
    """As `ValueError: text`."""


def difference(case: Case, plain: Seen, ours: Seen) -> str | None:
    """In words, or None."""
    if is_refused(case, ours):
        repeated = [name for name, times in ours.effects.items() if times > plain.effects[name]]
        return f"refused, but paid more than once: {', '.join(repeated)}" if repeated else None
    if plain.error is not None or ours.error is not None:
        return _of_errors(plain, ours) or _of_effects(plain, ours)
    asked = [[(one.node, one.question) for one in seen.questions] for seen in (plain, ours)]
    if isinstance(case.answers, Mapping):  # several questions of one step are open at once, in any order
        asked = [sorted(questions, key=repr) for questions in asked]
    return (
        _of_values("the questions are", *asked)
        or _of_effects(plain, ours)
        or (_of_values("the state is", plain.state, ours.state) if plain.state != NOTHING else None)
        or _of_outputs(plain.output, ours.output)
    )


def is_refused(case: Case, ours: Seen) -> bool:
    return case.refuses is not None and ours.error is not None and case.refuses in ours.error


def _of_outputs(expected: Any, found: Any) -> str | None:
    """What was a set is a list in JSON, in any order."""
    if canonical(_sorted(expected)) == canonical(_sorted(found)):
        return None
    return _of_values("the output is", expected, found)


def _sorted(value: Any) -> Any:
    if type(value) is dict:
        return {name: _sorted(item) for name, item in value.items()}
    return sorted((_sorted(item) for item in value), key=literal) if type(value) is list else value


def _of_errors(plain: Seen, ours: Seen) -> str | None:
    if plain.error is None or ours.error is None:
        return f"plain {_ended(plain)}, here it {_ended(ours)}"
    expected, found = (_ELAPSED.sub("elapsed", _RANDOM.sub("id", error)) for error in (plain.error, ours.error))
    return None if expected.splitlines()[0][:200] in found else f"plain raises {plain.error!r}, here {ours.error!r}"


def _ended(seen: Seen) -> str:
    return "ends well" if seen.error is None else f"fails with {seen.error!r}"


def _of_effects(plain: Seen, ours: Seen) -> str | None:
    if plain.effects == ours.effects:
        return None
    names = sorted(plain.effects.keys() | ours.effects.keys())
    told = [
        f"{name} ×{plain.effects[name]} became ×{ours.effects[name]}"
        for name in names
        if plain.effects[name] != ours.effects[name]
    ]
    return f"side effects: {', '.join(told)}"


def _of_values(what: str, expected: Any, found: Any) -> str | None:
    left, right = canonical(expected), canonical(found)
    return None if left == right else f"{what} {_shortened(left, right)}, here {_shortened(right, left)}"


def _shortened(form: str, other: str) -> str:
    """The part in which the two differ."""
    same = next((place for place, pair in enumerate(zip(form, other, strict=False)) if pair[0] != pair[1]), 0)
    return ("…" if same > 60 else "") + form[max(0, same - 60) : same + 140]


def canonical(value: Any) -> str:
    """A text that equal values share, with their types in it, and with random ids named in order of appearance."""
    names: dict[str, str] = {}
    numbers = count(1)

    def named(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"id-{next(numbers)}")

    return _RANDOM.sub(named, literal(value))


def literal(value: Any) -> str:
    """A text that equal values share, with their types and their ids in it."""
    return _PLACE.sub("at …", _form(value))


def _form(value: Any) -> str:
    kind = type(value)
    name = "" if kind in (str, int, float, bool, type(None), list, dict, tuple) else kind.__qualname__
    match value:
        case Enum():
            return f"{name}.{value.name}"
        case BaseModel():
            # Which fields were set is a part of what a model dumps.
            held = dict(value) | (value.__pydantic_private__ or {})
            return f"{name}({_pairs(held)}; set {sorted(value.model_fields_set)})"
        case Mapping():
            return f"{name}{{{_pairs(value)}}}"
        case set() | frozenset():
            return f"{name or 'set'}{{{', '.join(sorted(map(_form, value), key=_without_ids))}}}"
        case tuple() if kind is not tuple and hasattr(value, "_fields"):
            return f"{name}({_items(value)})"
        case tuple():
            return f"{name}({_items(value)},)"
        case list():
            return f"{name}[{_items(value)}]"
        case str() if kind is not str:
            return f"{name}({str.__repr__(value)})"
        case datetime() | time():
            return f"{value!r} fold {value.fold}"
        case _ if is_dataclass(value) and not isinstance(value, type):
            return f"{name}({_pairs({f.name: getattr(value, f.name, NOTHING) for f in fields(value)})})"
        case _ if repr(value).startswith(object.__repr__(value)):
            return f"{name}({_pairs(getattr(value, '__dict__', {}))})"
        case _:
            return f"{name}{value!r}"


def _pairs(value: Mapping[Any, Any]) -> str:
    return ", ".join(sorted((f"{_form(key)}: {_form(item)}" for key, item in value.items()), key=_without_ids))


def _items(values: Iterable[Any]) -> str:
    return ", ".join(map(_form, values))


def _without_ids(text: str) -> str:
    return _RANDOM.sub("", text)
