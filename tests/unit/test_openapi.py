"""The committed OpenAPI document."""

from pathlib import Path

from typer.testing import CliRunner

from app.cli.main import app
from tests.readmes import ROOT

COMMITTED = ROOT / "app" / "gateway" / "openapi.json"


def test_it_is_what_the_gateway_serves_today(tmp_path: Path) -> None:
    written = tmp_path / "openapi.json"
    assert CliRunner().invoke(app, ["openapi", "--into", str(written)]).exit_code == 0
    is_current = written.read_bytes() == COMMITTED.read_bytes()
    assert is_current, (
        "app/gateway/openapi.json is stale; `.venv/bin/stellwerk openapi --into app/gateway/openapi.json` writes it"
    )


def test_it_is_printed_too() -> None:
    assert CliRunner().invoke(app, ["openapi"]).stdout == COMMITTED.read_text(encoding="utf-8")
