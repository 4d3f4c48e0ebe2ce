"""Known secrets in what the writer wrote: names in their place, put there before the bytes leave the process.

A text (or bytes) that holds one becomes the extension SECRET: `[form, parts]`, in which a part is a piece of it or
`[name, how]` of a secret. All around stays as it was written.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ormsgpack

from app.known_secrets import Secrets
from workers.graph import kinds, leaves

TEXT, BYTES, SURROGATES, LEAF = range(4)
"""What the parts make when they are joined. The log holds these for ever."""
_MADE: Mapping[int, Callable[[bytes], Any]] = {
    TEXT: lambda data: data.decode(),
    BYTES: bytes,
    SURROGATES: lambda data: data.decode("utf-8", "surrogatepass"),
    LEAF: leaves.loads,
}


class _Ext(NamedTuple):
    kind: int
    payload: bytes


def with_names(data: bytes, secrets: Secrets) -> bytes:
    """The same msgpack, with names in the place of known secrets."""
    if not secrets.may_be_in(data):
        return data
    return ormsgpack.packb(_named(ormsgpack.unpackb(data, ext_hook=_Ext), secrets))


def _named(value: Any, secrets: Secrets) -> Any:
    match value:
        case _Ext(kind, payload):
            return _of_extension(kind, payload, secrets)
        case str():
            return _split(value.encode(), TEXT, secrets, value)
        case bytes():
            return _split(value, BYTES, secrets, value)
        case list():
            return [_named(item, secrets) for item in value]
        case dict():
            items = [(_named(key, secrets), _named(item, secrets)) for key, item in value.items()]
            if all(isinstance(key, str) for key, _ in items):
                return dict(items)
            return ormsgpack.Ext(kinds.PAIRS, ormsgpack.packb([list(item) for item in items]))
        case _:
            return value


def _of_extension(kind: int, payload: bytes, secrets: Secrets) -> Any:
    as_it_was = ormsgpack.Ext(kind, payload)
    if kind in (kinds.NUMBER, kinds.SECRET) or not secrets.may_be_in(payload):
        return as_it_was
    if kind == kinds.TEXT:
        return _split(payload, SURROGATES, secrets, as_it_was)
    if kind == kinds.LEAF:
        return _split(payload, LEAF, secrets, as_it_was)
    return ormsgpack.Ext(kind, with_names(payload, secrets))


def _split(data: bytes, form: int, secrets: Secrets, otherwise: Any) -> Any:
    text = data.decode("utf-8", "surrogateescape")
    found = secrets.found_in(text)
    if not found:
        return otherwise
    parts, at = list[Any](), 0
    for one in found:
        parts += [text[at : one.start].encode("utf-8", "surrogateescape"), [one.name, one.how]]
        at = one.end
    parts.append(text[at:].encode("utf-8", "surrogateescape"))
    return ormsgpack.Ext(kinds.SECRET, ormsgpack.packb([form, parts]))


def resolved(payload: bytes, secrets: Secrets) -> Any:
    """What stood there, with the secrets as they are now. Raises UnknownSecret."""
    form, parts = ormsgpack.unpackb(payload)
    return _MADE[form](
        b"".join(
            part if isinstance(part, bytes) else secrets.value(*part).encode("utf-8", "surrogateescape")
            for part in parts
        )
    )
