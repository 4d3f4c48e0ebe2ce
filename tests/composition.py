"""docker-compose.yml as Compose reads it, for tests that have no Docker engine."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
NGINX = (ROOT / "scripts" / "nginx.conf").read_text()
LISTEN = (ROOT / "scripts" / "listen.conf").read_text()
LISTEN_TLS = (ROOT / "scripts" / "listen-tls.conf").read_text()
SECRETS = {
    "POSTGRES_PASSWORD": "the-database's-password",
    "STELLWERK_APP_PASSWORD": "the-application's-password",
    "REDIS_PASSWORD": "the-broker's-password",
    "STELLWERK_TOKEN": "the-deployment's-token",
}
REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<kind>:[-?+])(?P<text>[^}]*))?\})")
UNITS = {"s": "seconds", "m": "minutes"}


class Missing(Exception):
    """A variable that the file requires is not set."""


def composition(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in. Raises Missing."""
    content: dict[str, Any] = _interpolate(yaml.safe_load(FILE.read_text()), variables)
    return content


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return REFERENCE.sub(lambda reference: _resolve(reference, variables), value)
    if isinstance(value, list):
        return [_interpolate(item, variables) for item in value]
    if isinstance(value, dict):
        return {name: _interpolate(item, variables) for name, item in value.items()}
    return value


def _resolve(reference: re.Match[str], variables: Mapping[str, str]) -> str:
    if reference["dollar"]:
        return "$"
    value = variables.get(reference["name"], "")
    if reference["kind"] == ":+":
        return (reference["text"] or "") if value else ""
    if not value and reference["kind"] == ":?":
        raise Missing(reference["name"])
    return value or reference["text"] or ""


def duration(text: str) -> timedelta:
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})
