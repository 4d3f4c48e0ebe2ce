"""The secrets that a process knows, by name, and the forms in which each of them may be met in a text."""

import base64
import hashlib
import hmac
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote

import orjson

from app.config import Settings
from app.errors import UnknownSecret

SHORTEST = 8
"""Characters; a shorter "secret" would also be found where it is none."""
FINGERPRINTED = 16
"""Characters; of a shorter secret, its head and its digest would give too much away."""
HEAD, TAIL = 4, 2
"""Characters of it that are told: with both, no text is hashed at every place that a known beginning has."""
TELLING = 12
"""Characters of a secret's beginning that are hidden by themselves; of a shorter one, all."""
_SALT = os.urandom(16)
"""Of this process, so that its fingerprints stay the same."""
_ESCAPES = re.compile("%[0-9A-F]{2}")


def _base64(offset: int, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    """What of a secret's base64 depends on nothing but the secret, where `offset` bytes precede it in their triple."""

    def core(secret: str) -> str:
        content = bytes(offset) + secret.encode(errors="surrogatepass")
        begin, end = (offset * 8 + 5) // 6, len(content) * 8 // 6
        return encode(content).decode()[begin:end]

    return core


def _in_json(secret: str) -> str:
    return orjson.dumps(secret.encode(errors="replace").decode()).decode()[1:-1]


def _percent(secret: str) -> str:
    return quote(secret, safe="", errors="replace")


FORMS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "json": _in_json,
    "percent": _percent,
    "percent, lower case": lambda secret: _ESCAPES.sub(lambda found: found[0].lower(), _percent(secret)),
    "path": partial(quote, errors="replace"),
    "form": partial(quote_plus, errors="replace"),
    "json, ascii": lambda secret: json.dumps(secret)[1:-1],
    "json in json": lambda secret: _in_json(_in_json(secret)),
    "html": html.escape,
    **{f"base64 at {offset}": _base64(offset, base64.b64encode) for offset in range(3)},
    **{f"base64url at {offset}": _base64(offset, base64.urlsafe_b64encode) for offset in range(3)},
}
"""How a secret may be written. The log holds these names for ever: none changes its meaning."""


class Form(NamedTuple):
    text: str
    name: str
    """The secret's."""
    how: str
    """One of FORMS."""


class Found(NamedTuple):
    start: int
    end: int
    name: str
    how: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """By it a process finds one form of a secret that it does not have."""

    name: str
    how: str
    head: str
    tail: str
    length: int
    salt: str
    digest: str

    @classmethod
    def of(cls, form: "Form") -> "Fingerprint":
        text = form.text
        return cls(form.name, form.how, text[:HEAD], text[-TAIL:], len(text), _SALT.hex(), _digest(_SALT, text))

    def matches(self, text: str) -> bool:
        return text.endswith(self.tail) and hmac.compare_digest(_digest(bytes.fromhex(self.salt), text), self.digest)


def _digest(salt: bytes, secret: str) -> str:
    return hmac.digest(salt, secret.encode(errors="replace"), hashlib.sha256).hex()


class Secrets:
    """Finds them in texts, and gives one by its name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Of two names with one value the first one counts; values that are too short are no secrets."""
        self._values = {name: value for name, value in values.items() if len(value) >= SHORTEST}
        self.forms = _forms(self._values)
        self._fingerprints: tuple[Fingerprint, ...] = ()
        self._set_heads()

    @classmethod
    def of(cls, settings: Settings) -> "Secrets":
        return cls(dict(secrets_in(settings)))

    @classmethod
    def unnamed(cls, values: Iterable[str]) -> "Secrets":
        return cls({str(number): value for number, value in enumerate(values)})

    def fingerprints(self, names: Iterable[str]) -> list[Fingerprint]:
        """Those of these secrets that are known here, and long enough; the same ones at each call."""
        long_enough = {name for name in names if len(self._values.get(name, "")) >= FINGERPRINTED}
        return [Fingerprint.of(form) for form in self.forms if form.name in long_enough]

    def learn(self, fingerprints: Iterable[Fingerprint]) -> None:
        """From now on these are found, too."""
        self._fingerprints = tuple(one for one in fingerprints if one.name not in self._values)
        self._set_heads()

    def _set_heads(self) -> None:
        heads = (*(form.text[:TELLING] for form in self.forms), *(one.head for one in self._fingerprints))
        # What JSON writes with a backslash looks otherwise there than in other bytes.
        looks = [look for head in heads for look in (head, _in_json(head))]
        self._heads = tuple(dict.fromkeys(look.encode(errors="replace") for look in looks))

    def may_be_in(self, data: bytes) -> bool:
        """The quick look, at UTF-8 or at JSON: False means that none of them is in it."""
        for head in self._heads:  # noqa: SIM110 - a generator takes twice as long
            if head in data:
                return True
        return False

    def value(self, name: str, how: str) -> str:
        """A secret as it is now, in one of its forms. Raises UnknownSecret."""
        try:
            return FORMS[how](self._values[name])
        except KeyError:
            raise UnknownSecret(
                f"the secret {name!r} is not set here ({how}); set it for all workers, and retry the session"
            ) from None

    def found_in(self, text: str) -> list[Found]:
        """Where they stand, in order; of two that overlap the one that begins first, or else the longer one."""
        every = sorted({*self._by_value(text), *self._by_fingerprint(text)}, key=lambda one: (one.start, -one.end))
        kept: list[Found] = []
        for found in every:
            if not kept or found.start >= kept[-1].end:
                kept.append(found)
        return kept

    def partly_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where their beginnings stand, as far as they are there: texts are cut short before they come here."""
        for form in self.forms:
            at = text.find(form.text[:TELLING])
            while at >= 0:
                end = at + min(TELLING, len(form.text))
                while end - at < len(form.text) and text[end : end + 1] == form.text[end - at]:
                    end += 1
                yield at, end
                at = text.find(form.text[:TELLING], end)

    def _by_value(self, text: str) -> Iterator[Found]:
        for form in self.forms:
            at = text.find(form.text)
            while at >= 0:
                end = at + len(form.text)
                yield Found(at, end, form.name, form.how)
                at = text.find(form.text, end)

    def _by_fingerprint(self, text: str) -> Iterator[Found]:
        for one in self._fingerprints:
            at = text.find(one.head)
            while at >= 0:
                end = at + one.length
                if end <= len(text) and one.matches(text[at:end]):
                    yield Found(at, end, one.name, one.how)
                at = text.find(one.head, at + 1)


def _forms(values: Mapping[str, str]) -> tuple[Form, ...]:
    """Without forms that say the same, of which the first name's counts; longer ones first."""
    forms: dict[str, Form] = {}
    for name, value in values.items():
        for how, write in FORMS.items():
            text = write(value)
            forms.setdefault(text, Form(text, name, how))
    return tuple(sorted(forms.values(), key=lambda form: -len(form.text)))


def secrets_in(settings: Settings) -> Iterator[tuple[str, str]]:
    """Names and values: what settings hold as secrets, and the passwords in their addresses."""
    for field in type(settings).model_fields:
        variable, value = settings.variables(field)[-1], getattr(settings, field)
        if hasattr(value, "get_secret_value"):
            yield variable, value.get_secret_value()
        elif field.endswith("url") and isinstance(value, str):
            for number, password in enumerate(passwords_in(value)):
                yield f"{variable}.password{number or ''}", password


_ADDRESS = re.compile(
    r"(?P<scheme>[a-z0-9+.-]+)://(?:(?P<user>[^:@/]*)(?P<colon>:)?(?P<password>.*)@)?(?P<place>[^@]*)\Z", re.DOTALL
)
_NAMED = re.compile(r"(?:password|passwd)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<bare>[^&\s']+))", re.IGNORECASE)


def passwords_in(address: str) -> list[str]:
    """The password of an address, as it is and as it is written there; of several that `;` divides, all.

    One that is also a name in the address (user, host, database) is no secret.
    """
    found = dict[str, None]()
    for named in _NAMED.finditer(address):
        found |= dict.fromkeys(_both(named["quoted"] or named["bare"] or ""))
    for one in address.split(";"):
        if not (parts := _ADDRESS.match(one)):
            continue
        names = {unquote(parts["user"] or ""), *re.split("[:/?]", parts["place"])}
        password = parts["password"] if parts["colon"] else ""
        if not parts["colon"] and parts["scheme"] in {"http", "https"}:
            password, names = f"{parts['user'] or ''}{parts['password'] or ''}", set()
        found |= {written: None for written in _both(password or "") if unquote(password or "") not in names}
    return [password for password in found if password]


def _both(written: str) -> list[str]:
    return [unquote(written), written]


NO_SECRETS = Secrets({})
