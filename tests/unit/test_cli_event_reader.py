"""The reconnecting reader against a server that misbehaves as real ones and their proxies do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.cli.client import Address, GatewayClient
from app.cli.support import event_reader
from app.cli.support.event_reader import EventReader
from app.errors import GatewayRefused, Unavailable

Answer = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers one connection; the int is its Last-Event-ID."""


def stream(*frames: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler, after: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        request.wfile.write("".join(frames).format(after=after).encode())

    return answer


def cut(*frames: str) -> Answer:
    """A body in chunks that is not complete."""

    def answer(request: BaseHTTPRequestHandler, after: int) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        body = "".join(frames).format(after=after).encode()
        request.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
        request.close_connection = True

    return answer


def status(code: int, detail: str = "so it is") -> Answer:
    def answer(request: BaseHTTPRequestHandler, after: int) -> None:
        request.send_response(code)
        request.end_headers()
        if code != 204:
            problem = {"type": "urn:stellwerk:problem:some-kind", "detail": detail, "status": code}
            request.wfile.write(json.dumps(problem).encode())

    return answer


def opening(head: int, *, cursor: str = "{after}") -> str:
    return f'event: stream\nid: {cursor}\nretry: 1\ndata: {{{{"head": {head}, "epoch": 1}}}}\n\n'


def events(first: int, last: int) -> str:
    return "".join(f'id: {n}\nevent: agent\ndata: {{{{"offset":{n}}}}}\n\n' for n in range(first, last + 1))


def end(head: int) -> str:
    return f'event: end\nid: {head}\ndata: {{{{"head": {head}}}}}\n\n'


class Script:
    """A server that gives its answers one after the other, and remembers what it was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self.cursors: list[int] = []
        self.queries: list[str] = []
        left = iter(answers)
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.cursors.append(int(self.headers["Last-Event-ID"]))
                script.queries.append(self.path.partition("?")[2])
                next(left)(self, script.cursors[-1])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> Address:
        return Address(f"http://127.0.0.1:{self.server.server_port}", "token")


@contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[Script, GatewayClient]]:
    script = Script(list(answers))
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with GatewayClient(script.address) as gateway:
            yield script, gateway
    finally:
        script.server.shutdown()
        script.server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(event_reader, "MAX_DELAY", 0.01)


def read(gateway: GatewayClient, *, after: str = "0", to_head: bool = False) -> tuple[list[int], list[str]]:
    notices: list[str] = []
    reader = EventReader(gateway, "id", after=after, notice=notices.append)
    got = [event.offset for event in (reader.to_head() if to_head else reader.to_end())]
    return got, notices


def test_cut_connections_are_resumed_where_they_were_cut() -> None:
    answers = [stream(opening(5), events(1, 2)), stream(opening(5)), stream(opening(5), events(3, 5), end(5))]
    with scripted(*answers) as (script, gateway):
        assert read(gateway) == ([1, 2, 3, 4, 5], ["the connection ended; trying again", "connected again"] * 2)
        assert script.cursors == [0, 2, 2]
        assert script.queries == ["", "", ""]


def test_repeated_events_are_dropped_and_missing_ones_asked_for_again() -> None:
    answers = [
        stream(opening(3), events(1, 2), events(1, 2), events(2, 3), end(3)),
        stream(opening(9), events(4, 5), events(7, 9), end(9)),
        stream(opening(9), events(6, 9), end(9)),
    ]
    with scripted(*answers) as (_, gateway):
        assert read(gateway)[0] == [1, 2, 3]
        got, notices = read(gateway, after="3")
        assert got == [4, 5, 6, 7, 8, 9]
        assert notices == ["offset 6 is missing; trying again", "connected again"]


@pytest.mark.parametrize(
    "trouble",
    [
        status(503),
        status(502, "a proxy"),
        status(429),
        stream(": the database does not answer\nretry: 1\n\n"),  # as old gateways said it
        stream('event: away\nretry: 1\ndata: {{"reason": "too many readers", "cursor": null}}\n\n'),
        lambda request, after: request.close_connection,  # nothing at all
    ],
)
def test_a_server_that_is_away_is_asked_again(trouble: Answer) -> None:
    answers = [trouble, trouble, stream(opening(1), events(1, 1), end(1))]
    with scripted(*answers) as (script, gateway):
        got, notices = read(gateway)
        assert got == [1]
        assert script.cursors == [0, 0, 0]
        assert notices[1:] == ["connected again"]


def test_what_is_no_event_is_passed_over_and_a_cursor_moves() -> None:
    other = (
        ": heartbeat\n",
        'event: heartbeat\ndata: {{"head": 9}}\n\n',
        "id: 3\nevent: cursor\ndata: {{}}\n\n",
        'id: 3\nevent: of-a-later-version\ndata: {{"what": "offset"}}\n\n',
        "event: without-an-id\ndata: []\n\n",
        ": heartbeat\n",
    )
    with scripted(stream(opening(5), events(1, 2), *other, events(4, 5), end(5))) as (script, gateway):
        assert read(gateway) == ([1, 2, 4, 5], [])
        assert script.cursors == [0]


def test_a_gateway_that_sends_away_is_asked_again_from_the_last_event() -> None:
    away = 'event: away\nretry: 1\ndata: {{"reason": "the gateway is stopping", "cursor": "2"}}\n\n'
    answers = [cut(opening(3), events(1, 2), ": heartbeat\n", away), cut(opening(3), events(3, 3)), status(204)]
    with scripted(*answers) as (script, gateway):
        got, notices = read(gateway)
        assert (got, script.cursors) == ([1, 2, 3], [0, 2, 3])
        assert notices[:2] == ["the gateway is stopping; trying again", "connected again"]


def test_a_reset_is_told_and_reading_goes_on_from_the_earliest() -> None:
    reset = 'event: reset\nid: 4\ndata: {{"reason": "expired", "earliest": 5, "head": 6}}\n\n'
    answer = stream(opening(6, cursor="4"), reset, events(5, 6), end(6))
    for to_head in (False, True):
        with scripted(answer) as (_, gateway):
            assert read(gateway, after="99", to_head=to_head) == ([5, 6], ["reset: expired; going on from offset 5"])


def test_reading_to_the_head_does_not_wait_for_more() -> None:
    with scripted(stream(opening(3), events(1, 2)), stream(opening(4), events(3, 4))) as (_, gateway):
        assert read(gateway, to_head=True)[0] == [1, 2, 3]
    with scripted(stream(opening(3))) as (_, gateway):
        assert read(gateway, after="3", to_head=True) == ([], [])


def test_nothing_comes_from_a_closed_stream() -> None:
    with scripted(status(204)) as (_, gateway):
        assert read(gateway, after="7") == ([], [])


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_is_final(code: int) -> None:
    with scripted(status(code, "no such session")) as (_, gateway):
        with pytest.raises(GatewayRefused, match="no such session") as refused:
            read(gateway)
        assert (refused.value.status, refused.value.kind) == (code, "some-kind")


def test_before_a_retry_the_caller_may_give_up() -> None:
    def give_up() -> None:
        raise Unavailable("the stack has ended")

    with scripted(stream(opening(2), events(1, 1))) as (_, gateway):
        reader = EventReader(gateway, "id", notice=lambda _: None, before_retry=give_up)
        with pytest.raises(Unavailable, match="the stack has ended"):
            list(reader.to_end())
        assert reader.cursor.offset == 1
