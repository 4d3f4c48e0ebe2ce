"""`stellwerk settings`, and the table of them in app/README.md."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli import console
from app.cli.commands import settings as command
from app.cli.main import app
from app.cli.support.settings_table import BEGIN, END, GROUPS, markdown
from app.config import PREFIX, PROVIDER_KEYS, Settings
from app.key_shapes import without_passwords
from tests.stacks import ROOT

WRITES_IT = "stellwerk settings --markdown --into app/README.md"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set, and there is no .env file."""
    for name in os.environ:
        if name.startswith(PREFIX) or name in PROVIDER_KEYS:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def said(*options: str) -> str:
    done = CliRunner().invoke(app, ["settings", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def by_variable() -> dict[str, Any]:
    return {variable: one for one in json.loads(said("--json")) for variable in one["variables"]}


def test_the_table_in_the_readme_is_fresh() -> None:
    between = (ROOT / "app" / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    assert between.strip() == markdown().strip(), f"the table is stale; `{WRITES_IT}` writes it"


def test_the_table_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    before = said("--markdown")
    monkeypatch.setenv("STELLWERK_PORT", "harbour")  # it does not even look at what is set
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere/else")
    assert said("--markdown") == before
    assert "| `STELLWERK_HOME` | the user's data directory |" in before and str(Path.home()) not in before
    assert "| `STELLWERK_OPENAI_API_KEY`, `OPENAI_API_KEY` | unset |" in before
    assert "| `STELLWERK_LEASE` | `60` s |" in before


def test_every_setting_has_a_meaning_and_a_group() -> None:
    without = [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")]
    assert not without, "a sentence below the field says what it means"
    names = list(Settings.model_fields)
    assert set(GROUPS) <= set(names) and names[0] in GROUPS
    shown = [line.removeprefix("### ") for line in markdown().splitlines() if line.startswith("### ")]
    assert shown == list(GROUPS.values())


def test_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"HOME": "/srv/stellwerk", "LEASE": "PT1M30S", "WORKFLOWS": "a,b", "PORT": "8000", "SANDBOX": ""}
    for name, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    shown = by_variable()
    values = {name: shown[f"{PREFIX}{name}"]["value"] for name in variables}
    assert values == {"HOME": "/srv/stellwerk", "LEASE": 90, "WORKFLOWS": ["a", "b"], "PORT": 8000, "SANDBOX": ""}
    assert shown["STELLWERK_OPENAI_BASE_URL"]["value"] == "http://127.0.0.1:11434/v1"
    assert (shown["STELLWERK_LEASE"]["default"], shown["STELLWERK_URL"]["value"]) == (60, None)
    lines = [line.split("\t") for line in said().splitlines()]
    assert len(lines) == len(Settings.model_fields) and {len(line) for line in lines} == {4}
    assert ["STELLWERK_LEASE", "90 s", "60 s"] in [line[:3] for line in lines]
    assert ["STELLWERK_WORKFLOWS", "a,b", "workers.workflows.repair"] in [line[:3] for line in lines]


def test_a_value_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_PORT", "harbour")
    refused = CliRunner().invoke(app, ["settings"])
    assert refused.exit_code == 2 and refused.stderr.startswith("stellwerk: STELLWERK_PORT: ")


def test_the_json_is_whole() -> None:
    shown = json.loads(said("--json"))
    assert len(shown) == len(Settings.model_fields)
    assert list(dict.fromkeys(one["group"] for one in shown)) == list(GROUPS.values())
    assert all(one["value"] == one["default"] and one["meaning"].endswith(".") for one in shown)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "STELLWERK_TOKEN": "tok-5ecret",
        "OPENAI_API_KEY": "sk-5ecret",
        "STELLWERK_PERPLEXITY_API_KEY": "5",
        "STELLWERK_DATABASE_URL": "postgresql://stellwerk:5ecret@db:5432/name",
        "STELLWERK_REDIS_URL": "rediss://:5ecret@redis:6379/0",
        "STELLWERK_BROKER_URL": "amqp://guest:5ecret@a;amqp://guest:5ecret@b",
        "STELLWERK_ANTHROPIC_BASE_URL": "https://5ecret@proxy.example/",
        "STELLWERK_URL": "http://127.0.0.1:8000/?token=tok-5ecret",
        "STELLWERK_SANDBOX": "env TOKEN=tok-5ecret",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for options in ((), ("--json",), ("--markdown",)):
        assert "5ecret" not in said(*options)
    shown = by_variable()
    assert {shown[name]["value"] for name in list(secrets)[:3]} == {"[redacted]"}
    assert shown["STELLWERK_DATABASE_URL"]["value"] == "postgresql://stellwerk:[redacted]@db:5432/name"
    assert shown["STELLWERK_ANTHROPIC_API_KEY"]["value"] is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://host:5432/name", "postgresql://host:5432/name"),
        ("postgresql://me@host/name", "postgresql://me@host/name"),
        ("postgresql://me:p%40ss@host/name?sslmode=require", "postgresql://me:[redacted]@host/name?sslmode=require"),
        ("postgresql://me@domain:pa/s:s?@host/name", "postgresql://me@domain:[redacted]@host/name"),
        ("redis://:a b;c@host/0", "redis://:[redacted]@host/0"),
        ("https://pa@host:443/v1", "https://[redacted]@host:443/v1"),
        ("https://me:pa@pa:pa@host/v1", "https://[redacted]@host/v1"),
        ("postgresql://host/name?user=me&password=pass&sslmode=require", "…&password=[redacted]&sslmode=require"),
        ("host=db password='pa ss' user=me", "host=db password=[redacted] user=me"),
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
    ],
)
def test_passwords_in_addresses(address: str, shown: str) -> None:
    assert without_passwords(address).endswith(shown.lstrip("…"))
    assert "pa" not in without_passwords(address).replace("password", "")


def test_a_terminal_cuts_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True, no_color=True, width=80)
    monkeypatch.setattr(console, "out", terminal)
    monkeypatch.setattr(command, "out", terminal)
    words = said().split()
    assert {name for one in Settings.model_fields for name in Settings.variables(one)} <= {w.rstrip(",") for w in words}


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"# mine\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    for _ in range(2):
        said("--markdown", "--into", str(file))
        assert file.read_text() == f"# mine\n\n{BEGIN}\n\n{markdown()}\n{END}\n\nmore\n"


@pytest.mark.parametrize(
    "options", [("--json", "--markdown"), ("--into", "a"), ("--markdown", "--into", "."), ("--markdown", "--into", "b")]
)
def test_bad_usage(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "b").write_text(f"{END}\n{BEGIN}\n")
    refused = CliRunner().invoke(app, ["settings", *options])
    assert refused.exit_code == 2 and refused.stderr.startswith("stellwerk: ")
