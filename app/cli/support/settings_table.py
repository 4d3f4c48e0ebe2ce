"""What `stellwerk settings` says of each setting: its variables, value, default and meaning. Secrets are hidden."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config import Settings
from app.errors import BadInput, BadPath
from app.key_shapes import HIDDEN, without_passwords
from app.known_secrets import Secrets
from app.redaction import Redactor

BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
"""The table stands between these lines of a Markdown file."""


GROUPS = {
    "home": "Home and servers",
    "url": "The gateway",
    "trusted_proxies": "The gateway's door",
    "metrics_token": "Metrics",
    "project_sessions": "Projects",
    "max_event_bytes": "The log",
    "workflows": "Workflows, steps and leases",
    "workspaces": "Workspaces",
    "supervisor": "Who does an agent's work",
    "openai_api_key": "Models",
    "log_level": "Logging",
}
"""Each group's first setting, and its title; a group ends where the next one begins."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, without anything secret. The `default_text` of one that depends on the machine names no path."""

    group: str
    variables: tuple[str, ...]
    value: object
    default: object
    default_text: str
    meaning: str

    @property
    def row(self) -> tuple[str, str, str, str]:
        return ", ".join(self.variables), _shown(self.value), self.default_text, self.meaning

    @property
    def json(self) -> dict[str, Any]:
        return {
            "variables": self.variables,
            "group": self.group,
            "value": _plain(self.value),
            "default": _plain(self.default),
            "meaning": self.meaning,
        }


def describe_settings(settings: Settings) -> Iterator[Setting]:
    """Describes them all, with the values that are in force."""
    redactor = Redactor(Secrets.of(settings))
    for group, name, field in _fields():
        default = field.get_default(call_default_factory=True)
        yield Setting(
            group=group,
            variables=settings.variables(name),
            value=_without_secrets(getattr(settings, name), redactor),
            default=default,
            default_text=_default_text(field, str),
            meaning=_meaning(field),
        )


def markdown() -> str:
    """A table for each group, the same on every machine and in every environment."""
    lines: list[str] = []
    for group, fields in groupby(_fields(), key=lambda found: found[0]):
        lines += [f"### {group}", "", "| variable | default | meaning |", "|---|---|---|"]
        for _, name, field in fields:
            variables = ", ".join(map(_code, Settings.variables(name)))
            cells = (variables, _default_text(field, _code), _meaning(field))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def write_between_markers(path: Path, table: str) -> None:
    """Puts the table in the place of the one that stands in the file. Raises BadInput where the markers are not."""
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        raise BadPath(f"{path} cannot be read: {error.strerror}") from error
    before, begin, rest = content.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{path} does not hold the lines {BEGIN} and {END}")
    try:
        path.write_text(f"{before}{begin}\n{table}\n{end}{after}", "utf-8")
    except OSError as error:
        raise BadPath(f"{path} cannot be written: {error.strerror}") from error


def _shown(value: object, quote: Callable[[str], str] = str) -> str:
    """Writes a value as its variable holds it, which is what is quoted, and a duration's unit after it."""
    match value:
        case None:
            return "unset"
        case "" | ():
            return "empty"
        case timedelta():
            return f"{quote(str(_plain(value)))} s"
        case bool():
            return quote(str(value).lower())
        case tuple():
            return quote(",".join(map(str, value)))
        case _:
            return quote(str(value))


def _fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Group by group: the settings of a part of the class would come before all others."""
    members = {group: list[tuple[str, FieldInfo]]() for group in GROUPS.values()}
    group = ""
    for name, field in Settings.model_fields.items():
        group = GROUPS.get(name, group)
        members[group].append((name, field))
    for group, fields in members.items():
        for name, field in fields:
            yield group, name, field


def _default_text(field: FieldInfo, quote: Callable[[str], str]) -> str:
    if field.default_factory is None:
        return _shown(field.default, quote)
    said = getdoc(field.default_factory) or ""  # what it makes depends on the machine
    return said[:1].lower() + said[1:].rstrip(".")


def _meaning(field: FieldInfo) -> str:
    meaning = re.sub(r"`(\w+)`", _reference, " ".join((field.description or "").split()))
    if get_origin(field.annotation) is not Literal:
        return meaning
    return f"{meaning} It is one of {', '.join(map(_code, get_args(field.annotation)))}."


def _reference(found: re.Match[str]) -> str:
    """A setting that is named in another one's meaning is named by its variable."""
    return _code(Settings.variables(found[1])[0]) if found[1] in Settings.model_fields else found[0]


def _code(text: str) -> str:
    return f"`{text}`"


def _without_secrets(value: object, redactor: Redactor) -> object:
    match value:
        case SecretStr():
            return HIDDEN if value else ""
        case str():
            return redactor.text(without_passwords(value))
        case tuple():
            return tuple(_without_secrets(item, redactor) for item in value)
        case _:
            return value


def _plain(value: object) -> object:
    """As JSON holds it; a duration is a number of seconds."""
    match value:
        case timedelta():
            seconds = value.total_seconds()
            return int(seconds) if seconds.is_integer() else seconds
        case Path():
            return str(value)
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value
