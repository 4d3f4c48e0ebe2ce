"""Secrets are planted wherever one can enter, and looked for wherever one could come out."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import orjson
import pytest

from app.embedded.running import StackInfo
from tests.canaries import Canaries, everything_said, hearing
from tests.processes import wait_until
from tests.stacks import stack, stellwerk

WORKFLOWS = "workers.workflows.repair,tests.graphs.leaking"
PRINTING = """
import os, pathlib
said = "\\n".join(f"{name}={value}" for name, value in os.environ.items())
pathlib.Path(PLACE).write_text(said)
print(said)

def test_it():
    assert not said, said
"""


def canary(name: str) -> str:
    """Of no well-known shape, with what addresses and JSON write otherwise."""
    return f'{name}/canary+"{secrets.token_urlsafe(18)}'


@contextmanager
def echoing() -> Iterator[str]:
    """A provider that says a request's headers again in its error, as proxies do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = orjson.dumps({"error": {"message": f"bad: {dict(self.headers)}", "type": "auth"}})
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so it is called
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Client(httpx.Client):
    """Keeps all that the gateway answers."""

    def __init__(self, info: StackInfo) -> None:
        headers = {"Authorization": f"Bearer {info.token}"}
        super().__init__(base_url=info.url, headers=headers, timeout=30, trust_env=False)
        self.answers: list[bytes] = []

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.request(method, path, **options)
        self.answers.append(answer.content)
        is_json = answer.headers.get("content-type") in {"application/json", "application/problem+json"}
        return orjson.loads(answer.content) if is_json else answer.content

    def submit(self, **body: Any) -> str:
        said = self.ask("POST", "/sessions", json=body)
        return str(said["session_id"])

    def until(self, session_id: str, *statuses: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def is_there() -> bool:
            found.update(self.ask("GET", f"/sessions/{session_id}"))
            return found["status"] in statuses

        wait_until(is_there, what=f"{statuses} of {session_id}", patience=60)
        return found

    def events(self, session_id: str) -> list[dict[str, Any]]:
        page = self.ask("GET", f"/sessions/{session_id}/events", params={"limit": "1000"})
        return list(page["events"])


@pytest.mark.timeout(400)
def test_no_planted_secret_comes_out(home: Path, tmp_path: Path) -> None:
    given = {
        "OPENAI_API_KEY": canary("openai"),
        "PERPLEXITY_API_KEY": canary("perplexity"),
        "ANTHROPIC_API_KEY": canary("anthropic"),
        "STELLWERK_TOKEN": secrets.token_urlsafe(24),  # it stands in a header
        "STELLWERK_METRICS_TOKEN": secrets.token_urlsafe(24),
    }
    agents = dict.fromkeys(("SUPERVISOR", "RESEARCH", "ARCHITECT", "CODESMITH", "REVIEWFIX"), "rules")
    with echoing() as url:
        variables = given | {f"STELLWERK_{name}": value for name, value in agents.items()}
        variables |= {"STELLWERK_WORKFLOWS": WORKFLOWS, "OPENAI_BASE_URL": url}
        with stack(home, variables) as info:
            passwords = {
                "the database's": info.database_url.split(":")[2].split("@")[0],
                "Redis'": info.redis_url.split(":")[2].split("@")[0],
                "the repository's": canary("repository").replace("/", "").replace("+", ""),
            }
            canaries = Canaries(**given, **passwords)
            with (
                canaries.watching_processes(info.pid) as of_processes,
                hearing(info.redis_url) as published,
                Client(info) as client,
            ):
                _plant(client, given, passwords["the repository's"], tmp_path)
                printed = "".join(
                    everything_said(stellwerk(home, *command, variables=variables))
                    for command in (("sessions",), ("verify", "--all"), ("doctor",), ("settings",), ("approvals",))
                )
            kept = [home / name for name in ("postgres", "output")]  # its data files are what the tables are
            kept += [*home.glob("*.json"), *home.glob("valkey/*.conf")]  # for the owner's eyes, by their modes
            leaks = {
                "tables": canaries.in_database(json.loads((home / "postgres.json").read_text())["owner_url"]),
                "Redis": canaries.in_redis(info.redis_url),
                "messages": [leak for message in published for leak in canaries.in_(message)],
                "answers": canaries.in_(b"\n".join(client.answers)),
                "terminal": canaries.in_(printed),
                "processes": of_processes,
                "files": canaries.in_files(home, but=kept),
                "tests": canaries.in_((tmp_path / "environment").read_bytes()),
            }
            (tmp_path / "leaks.json").write_bytes(orjson.dumps(leaks, option=orjson.OPT_INDENT_2))
            assert {place: found for place, found in leaks.items() if found} == {}, (
                tmp_path / "leaks.json"
            ).read_text()
            assert len(published) > 20 and len(client.answers) > 30
            logged = "".join(file.read_text() for file in (home / "logs").glob("worker*.log"))
            assert logged.count("it said") >= 1 and logged.count("Traceback") >= 3 and "[redacted]" in logged


def _plant(client: Client, given: dict[str, str], of_repository: str, tmp_path: Path) -> None:
    key = given["OPENAI_API_KEY"]
    wait_until(lambda: "workers" in client.ask("GET", "/readyz"), what="the worker serves")
    task = f"use {key} with {given['STELLWERK_TOKEN']}"
    leaking = client.submit(task=task, workflow="leaking", input={"heard": key}, context=None)
    failing = client.submit(task=task, workflow="failing", input={"fails": True, "heard": key})
    address = f"https://me:{httpx.URL(f'http://x/?{of_repository}').raw_path.decode()[2:]}@127.0.0.1:1/x.git"
    cloned = client.submit(task="repair", repo=address)
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_it.py").write_text(PRINTING.replace("PLACE", repr(str(tmp_path / "environment"))))
    (project / "unused.py").write_text("import os\n")
    repaired = client.submit(task="repair", path=str(project))
    client.ask("POST", "/sessions", json={"task": "x", "workflow": f"no-{key}"})
    client.ask("POST", "/sessions", json={"task": "x", "repo": f"ssh://git:{of_repository}@host/x"})

    assert "[redacted]" in client.until(failing, "failed")["reason"]
    client.ask("POST", f"/sessions/{failing}/retry", json={"reason": f"with {key}"})
    client.until(failing, "failed")
    assert client.until(cloned, "failed")["repo"] == "https://127.0.0.1:1/x.git"
    waiting = client.until(leaking, "waiting", "failed")
    assert waiting["status"] == "waiting", waiting
    step = waiting["steps"][-1]["step"]
    (question,) = (one["id"] for one in client.ask("GET", "/approvals")["approvals"] if one["session_id"] == leaking)
    body = {"answer": key, "comment": f"it is {key}", "verdict": "approved", "question": question}
    client.ask("POST", f"/sessions/{leaking}/approvals/{step}", json=body)
    result = client.until(leaking, "succeeded", "failed")
    assert result["status"] == "succeeded", result
    for name in ("heard_is_exact", "read_is_exact", "answer_is_exact"):
        assert result["result"][name] is True, "what folds and nodes read is exact"
    client.until(repaired, "succeeded", "failed")
    events = client.events(leaking)
    created = events[0]
    assert created["input"]["heard"] == {"$secret": [["OPENAI_API_KEY", "plain"]]}
    assert {event["via"] for event in events if "via" in event} == {"step token"}
    assert len([event for event in events if event.get("via")]) == 2, "of the program, and of the MCP bridge"
    for session_id in (leaking, failing, cloned, repaired):
        client.events(session_id)
        for path in ("export", "patch"):
            client.ask("GET", f"/sessions/{session_id}/{path}")
    for event in events:
        for value in event.values():
            if isinstance(value, dict) and "$artifact" in value:
                client.ask("GET", f"/sessions/{leaking}/artifacts/{value['$artifact']}")
    client.ask("POST", f"/sessions/{cloned}/cancel", json={"reason": f"no {key}"})
    client.ask("GET", "/sessions")
    client.ask("GET", "/events")
    client.ask("GET", "/operators")
