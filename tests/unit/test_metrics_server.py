"""A worker's own metrics over HTTP: who gets them, where, and that the process' end does not wait for them."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from app.config import Settings
from app.metrics import push_lost
from tests.scraping import Scrape
from workers.process.metrics import MetricsServer, serve_metrics

BEARER = {"Authorization": "Bearer s3cret"}


@contextmanager
def served(**changes: object) -> Iterator[tuple[MetricsServer, httpx.Client]]:
    server = serve_metrics(Settings.model_validate({"metrics_port": 0, **changes}))
    assert server is not None
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
            yield server, client
    finally:
        server.stop()


def test_it_shows_what_the_process_has_counted() -> None:
    with served() as (_, client):
        before = Scrape(client.get("/metrics").text).total("stellwerk_push_lost_total")
        push_lost.inc(3)
        answer = client.get("/metrics?x=y")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert Scrape(answer.text).value("stellwerk_push_lost_total") == before + 3
        assert client.get("/").status_code == 404
        assert client.post("/metrics").status_code == 501


def test_with_a_token_it_wants_it() -> None:
    with served(metrics_token="s3cret", metrics_host="0.0.0.0") as (_, client):
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            answer = client.get("/metrics", headers=wrong)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "stellwerk_" not in answer.text
        assert client.get("/metrics", headers=BEARER | {"Host": "10.0.0.1"}).status_code == 200


def test_without_a_token_a_page_under_another_name_gets_nothing() -> None:
    with served() as (_, client):
        assert client.get("/metrics", headers={"Host": "rebound.example"}).status_code == 421


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_loopback_without_a_token_it_does_not_serve(host: str) -> None:
    with capture_logs() as lines:
        assert serve_metrics(Settings(metrics_port=0, metrics_host=host)) is None
    assert [line["log_level"] for line in lines] == ["error"] and "STELLWERK_METRICS_TOKEN" in lines[0]["event"]


def test_an_address_that_cannot_be_had_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as lines:
        port = other.getsockname()[1]
        assert serve_metrics(Settings(metrics_port=port)) is None
    assert (lines[0]["log_level"], lines[0]["port"]) == ("warning", port)


def test_without_a_port_there_is_nothing() -> None:
    with capture_logs() as lines:
        assert serve_metrics(Settings()) is None
        assert serve_metrics(Settings.model_validate({"metrics_port": "", "metrics_token": ""})) is None
    assert not lines


async def test_a_client_that_says_nothing_holds_up_neither_others_nor_the_end() -> None:
    with served() as (server, client), socket.create_connection(("127.0.0.1", server.port)):
        assert (await asyncio.to_thread(client.get, "/metrics")).status_code == 200
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("metrics"))
