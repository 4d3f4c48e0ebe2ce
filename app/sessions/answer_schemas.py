"""Answers against the JSON Schema that their question gives: is it what the step asks for? Pure.

Schemas come from workflows and answers from clients, so neither may cost more than it is worth: nothing is fetched,
patterns are matched in linear time, and what takes too long is refused. A schema that cannot be used here refuses
nothing: the node says what it thinks of the answer.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
import structlog
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from pydantic import TypeAdapter
from pydantic_core import SchemaError as BadPattern
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from app.errors import BadAnswer, InvalidEvent
from app.events.encoding import check_json

logger = structlog.get_logger(__name__)

MAX_SCHEMA_BYTES = 64 * 1024
SECONDS = 1.0
"""Of the processor's time, for one answer."""
MAX_FAULTS = 10
MAX_FAULT_CHARACTERS = 300

UNUSED = frozenset({"unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"})
"""Keywords whose cost jsonschema does not let us bound; models of pydantic have none of them."""

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
_UNUSABLE = "a question's response_schema cannot be used"
_BAD_REFERENCE = (Unresolvable, ValueError, TypeError, AttributeError)
"""The last three where one leads to what is no schema, such as a name in `required`."""
_PROBES: tuple[Any, ...] = (None, {}, [], "", 0)


def storable(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """The schema as a question keeps it; None where it is too large, or no JSON."""
    if schema is None:
        return None
    try:
        check_json(schema, where="response_schema")
        size = len(orjson.dumps(schema))
    except (InvalidEvent, TypeError) as error:
        logger.warning("a question's response_schema is not kept", error=str(error))
        return None
    if size > MAX_SCHEMA_BYTES:
        logger.warning("a question's response_schema is not kept", bytes=size, most=MAX_SCHEMA_BYTES)
        return None
    return schema


def check_answer(schema: Any, answer: Any) -> None:
    """Raises BadAnswer with what is wrong, in the schema's words, and where."""
    validator = _validator(schema)
    if validator is None:
        return
    try:
        errors = [best_match([error]) for error in islice(validator.iter_errors(answer), MAX_FAULTS)]
    except Unresolvable as error:  # below an `$id` a reference may lead elsewhere
        logger.warning(_UNUSABLE, error=_shortened(str(error)))
        return
    except _TooLong:
        raise BadAnswer("the answer is too large to be checked against what the step asks for", schema=schema) from None
    except RecursionError:
        raise BadAnswer("the answer is nested too deeply for what the step asks for", schema=schema) from None
    if errors:
        faults = [(_pointer(error), _shortened(error.message)) for error in errors]
        told = "; ".join(f"{pointer}: {said}" if pointer else said for pointer, said in faults)
        raise BadAnswer(f"the answer is not what the step asks for: {told}", faults=faults, schema=schema)


def _validator(schema: Any) -> Validator | None:
    """None for a schema that cannot be used."""
    if not isinstance(schema, dict) or not _is_simple({**schema, "$schema": None}):
        return None
    draft = validator_for(schema, default=Draft202012Validator)
    try:
        draft.check_schema(schema)
        bounded = extend(draft, _bounded({**draft.VALIDATORS, **_OURS}))  # type: ignore[no-untyped-call]  # theirs
        own = {name: value for name, value in schema.items() if name != "$schema"}
        validator: Validator = bounded(own, registry=Registry(), format_checker=_FORMATS)
        for part in (own, *({"$ref": reference} for reference in _references(own))):
            for probe in _PROBES:  # a reference that leads nowhere, or round in a circle, or to what is no schema
                [*validator.evolve(schema=part).iter_errors(probe)]
    except (SchemaError, *_BAD_REFERENCE, RecursionError, _TooLong) as error:
        logger.warning(_UNUSABLE, error=_shortened(str(error)))
        return None
    return validator


def _references(schema: Any) -> set[str]:
    """All of them: what only some answers come to is tried, too."""
    parts = schema if isinstance(schema, list) else schema.values() if isinstance(schema, dict) else ()
    own = schema.get("$ref") if isinstance(schema, dict) else None
    return ({own} if isinstance(own, str) else set[str]()).union(*map(_references, parts))


def _is_simple(schema: Any) -> bool:
    """Says whether there is nothing in it that would step around the bounds; `$schema` further down would."""
    if isinstance(schema, list):
        return all(map(_is_simple, schema))
    if not isinstance(schema, dict):
        return True
    return not (UNUSED & schema.keys() or isinstance(schema.get("$schema"), str)) and all(
        map(_is_simple, schema.values())
    )


class _TooLong(Exception):
    """The answer, or the schema, costs too much."""


def _bounded(keywords: Mapping[str, Keyword]) -> dict[str, Keyword]:
    """The keywords, until the time is over. Every loop and every recursion of jsonschema passes a keyword."""
    until = time.thread_time() + SECONDS

    def bounded(keyword: Keyword) -> Keyword:
        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            if time.thread_time() > until:
                raise _TooLong
            yield from keyword(validator, value, instance, schema) or ()

        return check

    return {name: bounded(keyword) for name, keyword in keywords.items()}


@lru_cache(256)
def _pattern(pattern: str) -> SchemaValidator | None:
    """In Rust, where matching takes linear time; None for what that does not know, such as looking ahead."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except BadPattern:
        return None


def _matches(pattern: str, text: str) -> bool:
    """True also where that cannot be said."""
    compiled = _pattern(pattern)
    return compiled is None or compiled.isinstance_python(text)


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _check_pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if _pattern(pattern) is not None and _matches(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _check_additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in named and not any(_matches(p, name) for p in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extra:
        yield ValidationError(f"Additional properties are not allowed: {', '.join(map(repr, extra))}")


def _check_unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """By their JSON, in which 1 and 1.0 are the same and true is not 1."""
    if wanted and validator.is_type(instance, "array"):
        written = {orjson.dumps(_as_integer(item), option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(written) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _check_multiple_of(validator: Any, divisor: float, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """As pydantic does it, in whose eyes 0.3 is a multiple of 0.1."""
    if not validator.is_type(instance, "number"):
        return
    if isinstance(divisor, int) and isinstance(instance, int):
        is_one = instance % divisor == 0
    else:
        rest = abs(math.fmod(instance, divisor))
        is_one = min(rest, abs(rest - divisor)) <= abs(instance) / 1e9
    if not is_one:
        yield ValidationError(f"{instance!r} is not a multiple of {divisor!r}")


def _as_integer(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list():
            return [_as_integer(item) for item in value]
        case dict():
            return {name: _as_integer(item) for name, item in value.items()}
        case _:
            return value


_OURS: Mapping[str, Keyword] = {
    "pattern": _check_pattern,
    "patternProperties": _check_pattern_properties,
    "additionalProperties": _check_additional_properties,
    "multipleOf": _check_multiple_of,
    "uniqueItems": _check_unique,
}

_FORMATS = FormatChecker(formats=())
"""What pydantic would refuse in a node, it refuses here."""


def _add_format(name: str, kind: type) -> None:
    adapter = TypeAdapter[Any](kind)

    @_FORMATS.checks(name, raises=ValueError)
    def is_one(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_python(value)
        return True


for _name, _kind in (
    *(("date", date), ("time", time_of_day), ("date-time", datetime), ("duration", timedelta), ("uuid", UUID)),
):
    _add_format(_name, _kind)


def _pointer(error: ValidationError) -> str:
    """RFC 6901; empty for the answer as a whole."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.absolute_path)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_FAULT_CHARACTERS else f"{text[:MAX_FAULT_CHARACTERS]} …"
