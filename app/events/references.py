"""Known secrets in values that must stay exact, by their names: what is stored, and what is read of it again. Pure.

A text that holds one becomes `{"$secret": ["before ", ["OPENAI_API_KEY", "plain"], " after"]}`: its parts, the secrets
among them by name and form. An object with such keys becomes `{"$secret": {"items": [[key, value], …]}}`; so does a
client's own object that looks like either, so that reading gives back what was written. Old logs hold neither.
"""

from typing import Any

from app.known_secrets import Secrets

TAG = "$secret"
_ITEMS = "items"


def with_names(value: Any, secrets: Secrets) -> Any:
    """The same value with names in the place of known secrets; references that are there already stay."""
    match value:
        case str():
            return _text(value, secrets)
        case {"$secret": {"items": list() as items}} if is_reference(value):
            return {TAG: {_ITEMS: [[with_names(part, secrets) for part in item] for item in items]}}
        case dict() if is_reference(value):
            return value
        case dict():
            items = [(_text(str(key), secrets), with_names(item, secrets)) for key, item in value.items()]
            if all(isinstance(key, str) for key, _ in items):
                return dict(items)
            return {TAG: {_ITEMS: [list(item) for item in items]}}
        case list() | tuple():
            return [with_names(item, secrets) for item in value]
        case _:
            return value


def _text(text: str, secrets: Secrets) -> Any:
    found = secrets.found_in(text)
    if not found:
        return text
    parts, at = list[Any](), 0
    for one in found:
        parts += [text[at : one.start], [one.name, one.how]]
        at = one.end
    return {TAG: [part for part in [*parts, text[at:]] if part]}


def as_it_is(value: Any) -> Any:
    """What a client sent, in a form that is not taken for a reference."""
    match value:
        case dict() if value.keys() == {TAG}:
            return {TAG: {_ITEMS: [[TAG, as_it_is(value[TAG])]]}}
        case dict():
            return {key: as_it_is(item) for key, item in value.items()}
        case list() | tuple():
            return [as_it_is(item) for item in value]
        case _:
            return value


def is_reference(value: dict[Any, Any]) -> bool:
    if value.keys() != {TAG}:
        return False
    match value[TAG]:
        case list() as parts:
            return bool(parts) and all(isinstance(part, str) or _is_name(part) for part in parts)
        case {"items": list() as items, **others}:
            return not others and all(isinstance(item, list) and len(item) == 2 for item in items)
        case _:
            return False


def _is_name(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and all(isinstance(word, str) for word in part)


def resolved(value: Any, secrets: Secrets) -> Any:
    """The value with the secrets as they are now: one that was rotated is the new one. Raises UnknownSecret."""
    match value:
        case dict() if is_reference(value):
            items = items_of(value)
            if items is None:
                return text_of(value, secrets)
            return {resolved(key, secrets): resolved(item, secrets) for key, item in items}
        case dict():
            return {key: resolved(item, secrets) for key, item in value.items()}
        case list():
            return [resolved(item, secrets) for item in value]
        case _:
            return value


def items_of(reference: dict[str, Any]) -> list[Any] | None:
    """Keys and values of an object; None: the reference is a text."""
    content = reference[TAG]
    return content[_ITEMS] if isinstance(content, dict) else None


def text_of(reference: dict[str, Any], secrets: Secrets) -> str:
    """Raises UnknownSecret."""
    return "".join(part if isinstance(part, str) else secrets.value(*part) for part in reference[TAG])
