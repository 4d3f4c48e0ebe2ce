"""The committed OpenAPI document."""

from app.gateway.openapi import COMMITTED, committed_text


def test_it_is_what_the_gateway_serves_today() -> None:
    is_current = COMMITTED.read_text(encoding="utf-8") == committed_text()
    assert is_current, "app/gateway/openapi.json is stale; `python -m app.gateway.openapi` writes it"
