"""One session's events read by three kinds of clients whose line is cut: each offset once, in order, byte for byte."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from playwright.sync_api import Browser, Page, sync_playwright

from app.embedded.running import StackInfo
from tests.conftest import temporary_home
from tests.processes import wait_until
from tests.stacks import stack
from tests.surroundings import CHROMIUM, NO_CHROMIUM, optional_program

CHROMIUM_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[StackInfo]:
    with temporary_home() as home, stack(home) as info:
        yield info


@pytest.fixture
def client(running: StackInfo) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {running.token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60) as made:
        yield made


def start(client: httpx.Client, gate: Path, *, workflow: str = "chatty", reports: int = 0, **more: float) -> str:
    body = {"task": "talk", "workflow": workflow, "input": {"gate": str(gate), "reports": reports, **more}}
    answer: list[httpx.Response] = []

    def accepted() -> bool:  # a fresh stack's worker registers its workflows a moment after the gateway is ready
        answer[:] = [client.post("/sessions", json=body)]
        return answer[0].status_code == 201

    wait_until(accepted, what="the workflow is registered")
    return str(answer[0].json()["session_id"])


def stored(running: StackInfo, session_id: str) -> dict[int, str]:
    with psycopg.connect(running.database_url) as db:
        rows = db.execute('SELECT "offset", data::text FROM events WHERE stream_id = %s', (session_id,))
        return dict(rows.fetchall())


def behind_envelope(frame_data: str) -> str:
    """The stored bytes: what follows the envelope that only the database knows."""
    return "{" + re.sub(r'^\{"offset":\d+,"session_id":"[^"]+","ts":"[^"]+",', "", frame_data, count=1)


def assert_complete(received: list[tuple[int, str]], expected: dict[int, str]) -> None:
    assert [offset for offset, _ in received] == list(range(1, len(expected) + 1))
    assert {offset: behind_envelope(data) for offset, data in received} == expected


def is_event(frame: ServerSentEvent) -> bool:
    return frame.data.startswith('{"offset":')


def test_httpx_sse_cut_after_every_few_events(client: httpx.Client, running: StackInfo, tmp_path: Path) -> None:
    session_id = start(client, tmp_path / "gate", reports=150)
    received: list[tuple[int, str]] = []
    ended, connections = False, 0
    while not ended:
        connections += 1
        headers = {"Last-Event-ID": str(received[-1][0])} if received else {}
        taken = 0
        with connect_sse(
            client, "GET", "/events", params={"session_id": session_id, "after": 0}, headers=headers
        ) as source:
            for frame in source.iter_sse():
                ended = frame.event == "end"
                if is_event(frame):
                    received.append((int(frame.id), frame.data))
                    taken += 1
                if taken == connections % 7 + 1:
                    break
        if connections == 10:
            (tmp_path / "gate").touch()
    assert connections > 20
    assert_complete(received, stored(running, session_id))
    after_the_end = client.get(
        "/events", params={"session_id": session_id}, headers={"Last-Event-ID": str(received[-1][0])}
    )
    assert (after_the_end.status_code, after_the_end.content) == (204, b"")


def test_curl_cut_and_resumed(client: httpx.Client, running: StackInfo, tmp_path: Path) -> None:
    program = optional_program("curl")
    if program is None:
        pytest.skip("curl is not installed")
    session_id = start(client, tmp_path / "gate", reports=50)
    address = f"{running.url}/sessions/{session_id}/events"
    command = [program, "-sN", "-H", f"Authorization: Bearer {running.token}", "-H", "Accept: text/event-stream"]
    received: list[tuple[int, str]] = []
    for count in (5, 20, None):
        last = ["-H", f"Last-Event-ID: {received[-1][0]}"] if received else []
        with subprocess.Popen([*command, *last, address], stdout=subprocess.PIPE, text=True) as curl:
            assert curl.stdout is not None
            taken = 0
            for line in curl.stdout:
                if line.startswith('data: {"offset":'):
                    data = line.removeprefix("data: ").removesuffix("\n")
                    received.append((json.loads(data)["offset"], data))
                    taken += 1
                if taken == count:
                    break
            curl.kill()
        (tmp_path / "gate").touch()
    assert_complete(received, stored(running, session_id))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = optional_program(*CHROMIUM)
    if chromium is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, running: StackInfo) -> Iterator[Page]:
    """Signed in by the address that `stellwerk up` prints."""
    # The page's policy forbids evaluating text, which is how these tests look into it.
    with browser.new_context(bypass_csp=True) as context:
        opened = context.new_page()
        opened.goto(f"{running.url}/?token={running.token}")
        assert "token" not in opened.url
        yield opened


FOLLOW = """
address => {
  window.received = [];
  window.opened = 0;
  window.source = new EventSource(address);
  const names = ["agent", "step", "session", "workflow", "approval", "model"];
  for (const name of names) source.addEventListener(name, e => received.push([Number(e.lastEventId), e.data]));
  source.addEventListener("stream", e => { opened += 1; window.begun = Number(e.lastEventId); });
  source.addEventListener("end", () => { window.ended = true; });
}
"""


def received_by(page: Page) -> list[tuple[int, str]]:
    return [(offset, data) for offset, data in page.evaluate("received")]


@pytest.mark.browser
def test_the_form_signs_a_browser_in(browser: Browser, running: StackInfo) -> None:
    """What a browser sends as Origin with a form is its own affair, by the policy of the page."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(running.url)
        page.fill("input[name=key]", running.token)
        page.click("button")
        page.wait_for_selector("main")
        assert page.url == f"{running.url}/"


@pytest.mark.browser
def test_a_browsers_event_source_through_cuts_of_the_line(
    client: httpx.Client, running: StackInfo, page: Page, tmp_path: Path
) -> None:
    session_id = start(client, tmp_path / "gate", reports=50)
    page.evaluate(FOLLOW, f"/events?session_id={session_id}&after=0")
    page.wait_for_function("received.length > 10")
    (pid,) = gateway_pids(running)
    pid.kill()  # the stack starts another one on the same port; EventSource reconnects by itself
    before = page.evaluate("received.length")
    page.wait_for_function(f"opened > 1 && received.length > {before} + 10", timeout=60_000)
    (tmp_path / "gate").touch()
    page.wait_for_function("window.ended", timeout=60_000)
    assert_complete(received_by(page), stored(running, session_id))
    # after the end it asks once more, gets 204, and stays quiet
    page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=60_000)
    assert page.evaluate("opened") == 2


def gateway_pids(running: StackInfo) -> list[Any]:
    import psutil

    children = psutil.Process(running.pid).children(recursive=True)
    return [child for child in children if "app.gateway" in child.cmdline()]


@pytest.mark.browser
def test_a_browsers_event_source_with_a_filter_and_from_latest(
    client: httpx.Client, running: StackInfo, page: Page, tmp_path: Path
) -> None:
    session_id = start(client, tmp_path / "gate", reports=50)
    wait_until(lambda: client.get(f"/sessions/{session_id}").json()["head"] > 20, what="some events are old")
    page.evaluate(FOLLOW, f"/events?session_id={session_id}&after=latest&t=agent&phase=think")
    page.wait_for_function("received.length > 10")
    begun = page.evaluate("begun")
    assert begun > 20
    (pid,) = gateway_pids(running)
    pid.kill()
    before = page.evaluate("received.length")
    page.wait_for_function(f"opened > 1 && received.length > {before} + 10", timeout=60_000)
    (tmp_path / "gate").touch()
    page.wait_for_function("window.ended", timeout=60_000)
    expected = {
        offset: data
        for offset, data in stored(running, session_id).items()
        if offset > begun and json.loads(data).get("phase") == "think"
    }
    received = received_by(page)
    assert [offset for offset, _ in received] == sorted(expected)
    assert {offset: behind_envelope(data) for offset, data in received} == expected
    page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=60_000)


@pytest.mark.browser
def test_tabs_share_their_lines(client: httpx.Client, running: StackInfo, browser: Browser, tmp_path: Path) -> None:
    """Over HTTP/1.1 the seventh would hang, and with it every other request of the browser."""
    session_id = start(client, tmp_path / "gate", workflow="paced", pause=0.5)
    with browser.new_context() as context:
        tabs = [context.new_page() for _ in range(8)]
        tabs[0].goto(f"{running.url}/#token={running.token}")
        tabs[0].wait_for_selector("text=Sessions")
        for tab in tabs:
            tab.goto(f"{running.url}/#{session_id}")
            tab.reload()
            tab.wait_for_selector("text=report 3", state="attached")
        assert tabs[7].evaluate("fetch('/sessions?limit=1').then((answer) => answer.status)") == 200
        (tmp_path / "gate").touch()
        for tab in tabs:
            tab.wait_for_selector("#status.succeeded", state="attached", timeout=60_000)
            tab.wait_for_selector("text=complete, ", state="attached", timeout=60_000)


@pytest.mark.browser
def test_the_page_shows_a_session_live(
    client: httpx.Client, running: StackInfo, browser: Browser, tmp_path: Path
) -> None:
    session_id = start(client, tmp_path / "gate", reports=50)
    complaints: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{running.url}/?token={running.token}")
        page.click(f'a[href="#{session_id}"]')
        page.wait_for_selector("text=report 3")
        (tmp_path / "gate").touch()
        page.wait_for_selector("#status.succeeded", timeout=60_000)
    assert complaints == []
