"""docker-compose.yml as Compose reads it, for tests that have no Docker engine."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
NGINX = (ROOT / "scripts" / "nginx.conf").read_text()
SECRETS = {"POSTGRES_PASSWORD": "the-database's-password", "STELLWERK_TOKEN": "the-deployment's-token"}
REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<text>[^}]*))?\})")
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
    if not value and reference["kind"] == ":?":
        raise Missing(reference["name"])
    return value or reference["text"] or ""


def duration(text: str) -> timedelta:
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def debian_package(name: str, binary: str) -> str | None:
    """The path of the binary; in CI, as root, it is installed if need be."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    found = shutil.which(binary, path=places)
    if found is None and os.environ.get("CI") == "true" and os.geteuid() == 0:
        install = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["sh", "-c", f"{install} {name}"], env=environment, capture_output=True, check=True)
        found = shutil.which(binary, path=places)
    return found
