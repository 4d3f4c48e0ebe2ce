"""The deployment's services as plain processes: their commands and variables from the file, nginx in front."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from app.embedded.home import free_port
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from tests.composition import SECRETS, composition, duration
from tests.conftest import execute, temporary_home, url_of
from tests.nginx import make_certificate, nginx, until_it_answers
from tests.processes import wait_until
from tests.roles import as_app
from tests.sandboxed import sandbox
from tests.surroundings import optional_program
from workers.workflows.sample import write_sample

TOKEN = SECRETS["STELLWERK_TOKEN"]
HEARTBEAT_SECONDS = 1
STREAM = {"Accept": "text/event-stream"}


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ({}, 2, "set STELLWERK_DATABASE_URL"),
        ({"STELLWERK_DATABASE_URL": "postgresql://stellwerk:x@127.0.0.1:1/stellwerk"}, 1, "refused"),
    ],
)
def test_migrate_says_what_is_wrong(tmp_path: Path, address: dict[str, str], status: int, said: str) -> None:
    environment = _base_environment(tmp_path) | address
    command = composition(SECRETS)["services"]["migrate"]["command"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr


@dataclass
class Deployment:
    services: dict[str, Any]
    directory: Path
    changes: dict[str, str]
    """What cannot be as in the file, where every service has an address of its own."""

    @property
    def projects(self) -> Path:
        return Path(self.services["worker"]["environment"]["STELLWERK_PATHS"])

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    @contextmanager
    def running(self, service: str, name: str, **changes: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The service's command; at the end it has the file's grace period to stop."""
        declared = self.services[service]
        differing = {key: value for key, value in self.changes.items() if key in declared["environment"]}
        command = [argument.replace("%h", f"{name}.%h") for argument in declared["command"]]
        with (self.directory / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**_base_environment(self.directory), **declared["environment"], **differing, **changes},
                cwd=self.directory,  # away from a developer's .env
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                grace = duration(declared.get("stop_grace_period", "10s"))
                # uvicorn, when all is closed, ends by the signal that it got
                assert process.wait(grace.total_seconds()) in {0, -signal.SIGTERM}, self.log(name)
            finally:
                process.kill()
                process.wait()


def _base_environment(home: Path) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(home), "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def deployment(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Deployment]:
    execute(postgres.superuser_url, "CREATE DATABASE composed")
    with temporary_home() as directory:
        declared = composition(SECRETS | {"STELLWERK_PATHS": str(directory / "projects")})["services"]
        changes = {
            "STELLWERK_DATABASE_URL": as_app(url_of(postgres, "composed")),
            "STELLWERK_MIGRATE_URL": url_of(postgres, "composed"),
            "STELLWERK_REDIS_URL": valkey.url,
            "STELLWERK_WORKSPACES": str(directory / "workspaces"),
            "STELLWERK_SANDBOX": sandbox(),
            "STELLWERK_TRUSTED_PROXIES": "127.0.0.1",
        }
        yield Deployment(declared, directory, changes)
    execute(postgres.superuser_url, "DROP DATABASE composed WITH (FORCE)")


@dataclass
class Running:
    deployment: Deployment
    gateways: list[str]
    workers: list["subprocess.Popen[bytes]"]

    def signal_workers(self, number: signal.Signals) -> None:
        for worker in self.workers:
            worker.send_signal(number)


@pytest.fixture(scope="module")
def running(deployment: Deployment) -> Iterator[Running]:
    """Migrated, with two gateways and two workers."""
    with ExitStack() as stack:
        migration = stack.enter_context(deployment.running("migrate", "migrate"))
        assert migration.wait(timeout=60) == 0, deployment.log("migrate")
        ports = [free_port() for _ in range(2)]
        quick = {"STELLWERK_HEARTBEAT": str(HEARTBEAT_SECONDS)}
        for port in ports:
            environment = quick | {"STELLWERK_PORT": str(port)}
            stack.enter_context(deployment.running("gateway", f"gateway-{port}", **environment))
        names = ["worker-1", "worker-2"]
        workers = [stack.enter_context(deployment.running("worker", name)) for name in names]
        for port in ports:
            until_it_answers(f"http://127.0.0.1:{port}/readyz", 200)
        wait_until(lambda: all('"serving"' in deployment.log(name) for name in names), what="workers", patience=90)
        yield Running(deployment, [f"127.0.0.1:{port}" for port in ports], workers)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory)
    return directory


def client_of(address: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30)


def submit(client: httpx.Client, project: Path) -> str:
    write_sample(project)
    answer = client.post("/sessions", json={"task": "repair it", "path": str(project)})
    assert answer.status_code == 201, answer.text
    session_id: str = answer.json()["session_id"]
    return session_id


def check_result(client: httpx.Client, session_id: str, frames: list[ServerSentEvent], *, with_tests: bool) -> None:
    assert frames[0].event == "stream" and frames[-1].event == "end"
    events = [frame for frame in frames[1:-1] if frame.data]  # httpx-sse makes an empty one of each heartbeat
    assert [int(frame.id) for frame in events] == list(range(1, json.loads(frames[-1].data)["head"] + 1))
    closing = json.loads(events[-1].data)
    assert closing["status"] == "succeeded", closing
    result = closing["result"]
    assert result["findings_after"] < result["findings_before"]
    if with_tests:
        assert result["tests_after"]["passed"] >= 4, result
    else:
        assert result["tests_after"] is None and "STELLWERK_SANDBOX" in result["summary"]
    patch = client.get(f"/sessions/{session_id}/patch")
    assert patch.text.startswith("diff --git ")


def test_one_gateway_takes_a_session_and_the_other_shows_it(running: Running) -> None:
    first, second = running.gateways
    with client_of(first) as submitting, client_of(second) as reading:
        session_id = submit(submitting, running.deployment.projects / "till")
        with connect_sse(reading, "GET", f"/sessions/{session_id}/events") as source:
            frames = list(source.iter_sse())
        check_result(reading, session_id, frames, with_tests=bool(running.deployment.changes["STELLWERK_SANDBOX"]))


def test_a_session_outside_of_the_projects_is_refused(running: Running) -> None:
    elsewhere = running.deployment.projects / ".." / "workspaces"
    with client_of(running.gateways[0]) as client:
        refused = client.post("/sessions", json={"task": "repair it", "path": str(elsewhere)})
    assert refused.status_code == 422 and str(running.deployment.projects) in refused.json()["detail"]


def test_through_nginx_a_stream_comes_as_it_is_written(running: Running, tmp_path: Path) -> None:
    with nginx(tmp_path, running.gateways) as address, client_of(address) as client:
        running.signal_workers(signal.SIGSTOP)
        try:
            session_id = submit(client, running.deployment.projects / "through-nginx")
            events = f"/sessions/{session_id}/events"
            with client.stream("GET", events, headers=STREAM, timeout=10 * HEARTBEAT_SECONDS) as response:
                lines = response.iter_lines()
                assert next(lines).startswith("id: 0")
                # Nothing is written while the workers stand still but this, too small to be sent on by itself.
                assert ": heartbeat" in lines
                running.signal_workers(signal.SIGCONT)
                live = [line for line in lines if line.startswith("data: ")]
        finally:
            running.signal_workers(signal.SIGCONT)
        with connect_sse(client, "GET", events) as source:
            frames = list(source.iter_sse())
        assert [f"data: {frame.data}" for frame in frames[2:]] == live
        check_result(client, session_id, frames, with_tests=bool(running.deployment.changes["STELLWERK_SANDBOX"]))
        assert client.get(events, headers={**STREAM, "Last-Event-ID": frames[-1].id}).status_code == 204
    log = (tmp_path / "nginx.log").read_text()
    assert all(gateway in log for gateway in running.gateways)


def test_a_browser_signs_in_through_nginx(running: Running, tmp_path: Path) -> None:
    with nginx(tmp_path, running.gateways) as address, httpx.Client(base_url=f"http://{address}") as browser:
        assert browser.get("/").status_code == 401
        opened = browser.get("/", params={"token": TOKEN}, follow_redirects=True)
        assert opened.status_code == 200 and not opened.url.query
        own, foreign = {"Origin": f"http://{address}"}, {"Origin": "http://127.0.0.1:1"}
        assert browser.post("/sessions", json={"task": ""}, headers=own).status_code == 401  # by a sign-in one reads
        assert browser.post("/sessions", json={"task": ""}, headers=foreign).status_code == 403
    log = (tmp_path / "nginx.log").read_text()
    assert '"GET /" 303' in log
    assert "token" not in log


def test_over_tls_a_stream_comes_as_it_is_written(running: Running, tmp_path: Path, certificates: Path) -> None:
    """And in HTTP/2, in which a browser has one connection for all of its tabs."""
    curl = optional_program("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    with nginx(tmp_path, running.gateways, certificates=certificates) as address:
        command = [curl, "--silent", "--no-buffer", "--http2", "--cacert", str(certificates / "fullchain.pem")]
        command += ["--header", f"Authorization: Bearer {TOKEN}", "--write-out", "%{http_version}"]
        asked = ["--json", json.dumps({"task": "look", "workflow": "repair"}), f"https://{address}/sessions"]
        done = subprocess.run([*command, *asked], capture_output=True, text=True, check=True).stdout
        created, version = json.loads(done[:-1]), done[-1]
        assert version == "2", done
        running.signal_workers(signal.SIGSTOP)
        try:
            feed = [*command, "--header", "Accept: text/event-stream", f"https://{address}/events?after=latest"]
            with subprocess.Popen(feed, stdout=subprocess.PIPE, text=True) as reading:
                assert reading.stdout is not None
                assert any(line.startswith(": heartbeat") for line in reading.stdout), "too small to be sent on"
                reading.terminate()
        finally:
            running.signal_workers(signal.SIGCONT)
        events = [*command, f"https://{address}/events?session_id={created['session_id']}"]
        frames = subprocess.run(events, capture_output=True, text=True, check=True, timeout=60).stdout
        assert "\nevent: end\n" in frames and frames.endswith("\n2")


def test_a_browser_signs_in_over_tls(running: Running, tmp_path: Path, certificates: Path) -> None:
    """The gateway knows by which scheme the browser came, and nobody can make it believe another one."""
    trusted = ssl.create_default_context(cafile=str(certificates / "fullchain.pem"))
    with (
        nginx(tmp_path, running.gateways, certificates=certificates) as address,
        httpx.Client(base_url=f"https://{address}", verify=trusted) as browser,
    ):
        forged = {"X-Forwarded-Proto": "http", "X-Forwarded-For": "192.0.2.1", "Forwarded": "proto=http"}
        entered = browser.post("/login", data={"key": TOKEN}, headers=forged)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert "; secure" in entered.headers["set-cookie"].lower()
        assert browser.get("/").status_code == 200
        assert browser.get("/sessions/").status_code == 404
        for origin, status in ((f"https://{address}", 401), (f"http://{address}", 403), ("https://127.0.0.1", 403)):
            posted = browser.post("/sessions", json={"task": ""}, headers={"Origin": origin})
            assert posted.status_code == status, origin
    with nginx(tmp_path, running.gateways) as address, httpx.Client(base_url=f"http://{address}") as browser:
        entered = browser.post("/login", data={"key": TOKEN}, headers={"X-Forwarded-Proto": "https"})
        assert entered.status_code == 303 and "secure" not in entered.headers["set-cookie"].lower()


def test_through_nginx_a_stranger_is_answered_before_the_body_has_come(running: Running, tmp_path: Path) -> None:
    with nginx(tmp_path, running.gateways) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST /sessions HTTP/1.1\r\nHost: {address}\r\nContent-Length: 8000000\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_without_a_gateway_nginx_asks_readers_to_come_back(tmp_path: Path) -> None:
    with nginx(tmp_path, [f"127.0.0.1:{free_port()}" for _ in range(2)]) as address:
        events = f"http://{address}/events?token=a-secret"
        reader = httpx.get(events, headers=STREAM)
        assert reader.status_code == 200 and reader.headers["content-type"] == "text/event-stream"
        assert reader.text.startswith("event: away\nretry: 3000\ndata: {") and reader.text.endswith("}\n\n")
        other = httpx.post(events, json={})
        assert other.status_code == 503 and other.headers["content-type"] == "application/problem+json"
        assert other.headers["retry-after"] and other.json()["status"] == 503
    assert "secret" not in (tmp_path / "nginx.log").read_text()
