"""app/gateway/README.md against the gateway: its tables are complete, its examples run, and its texts are valid."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import jsonschema
import pytest
from sqlalchemy import text

from app.database import transaction
from app.errors import Altered, DiskFull, NoWorkerYet, TooMany, Unavailable
from app.gateway.door.bodies import MAX_BODY_BYTES
from app.principals.secrets import new_key
from app.sessions import approvals, worker_repository
from app.sessions.model import RefusedWorkflow
from tests.answering import question_of
from tests.guide import GUIDE, clients, is_client, table
from tests.populating import Population, populate, waiting
from tests.readmes import Block
from tests.serving import TOKEN, Served, serving
from tests.surroundings import optional_program

NAME = re.compile("`([^`]+)`")
QUERY = re.compile(r"[`?&](\w+)=")
HEADER = re.compile("`([A-Z][A-Za-z]+-[A-Za-z-]+)")
UNDOCUMENTED = {("GET", "/openapi.json"), ("GET", "/"), ("POST", "/login"), ("POST", "/logout")}
"""What the document leaves out."""


@pytest.fixture
async def served(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url, paths=str(tmp_path)) as served:
        yield served


@pytest.fixture
async def population(served: Served) -> Population:
    return await populate(served.gateway.backends)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GUIDE.file.with_name("openapi.json").read_text(encoding="utf-8"))
    return found


def validate(document: dict[str, Any], schema: str, value: object) -> None:
    reference = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    jsonschema.Draft202012Validator(reference, format_checker=jsonschema.FormatChecker()).validate(value)


def test_every_endpoint_is_named(document: dict[str, Any]) -> None:
    named = {tuple(name.split()) for request, *_ in table("request") for name in NAME.findall(request)}
    served = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == served | UNDOCUMENTED


def test_every_parameter_and_field_is_named(document: dict[str, Any]) -> None:
    text = "\n".join(GUIDE.lines)
    queries, headers = {name.lower() for name in QUERY.findall(text)}, {name.lower() for name in HEADER.findall(text)}
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                named = {"query": queries, "header": headers, "path": {parameter["name"]}}[parameter["in"]]
                assert named & {parameter["name"], parameter["name"].lower()}, parameter
    schemas = document["components"]["schemas"]
    assert {NAME.findall(row[0])[0] for row in table("field")} == schemas["SessionRequest"]["properties"].keys()
    told = (
        "NewReport",
        "Answer",
        "Asked",
        "NewKey",
        "Rotation",
        "NewTicket",
        "Granted",
        "Key",
        "Readiness",
        "EventPage",
        "FeedPage",
    )
    for schema in told:
        for field in schemas[schema]["properties"]:
            assert re.search(rf"\b{field}\b", text), (schema, field)


def test_every_kind_of_event_is_named(document: dict[str, Any]) -> None:
    kinds = {name for row in table("`t`") for name in NAME.findall(row[0])}
    mapping = document["components"]["schemas"]["Event"]["discriminator"]["mapping"]
    assert kinds == mapping.keys() - {"batch_event", "erased_event"}  # nothing writes those yet


def test_the_texts_in_json_are_valid(document: dict[str, Any]) -> None:
    for block in GUIDE.blocks("json"):
        validate(document, block.about, json.loads(block.text))


def test_the_stream_is_valid(document: dict[str, Any]) -> None:
    (transcript,) = GUIDE.blocks("text")
    *frames, rest = transcript.text.split("\n\n")
    assert rest == ""
    names = list[str]()
    for frame in frames:
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        data, name = json.loads(fields["data"]), fields["event"]
        names.append(name)
        match name:
            case "stream":
                assert list(data) == ["earliest", "head", "head_chain", "status", "epoch"]
            case "end":
                assert list(data) == ["head", "head_chain", "status"]
            case _:
                validate(document, "Event", data)
                assert (data["offset"], data["t"]) == (int(fields["id"]), f"{name}_event")
    assert names == ["stream", "session", "agent", "session", "end"]
    assert "\n: heartbeat\nid: 3\n" in transcript.text


def test_every_block_is_run_or_checked() -> None:
    for block in GUIDE.blocks():
        assert is_client(block) or block.language in {"json", "text", "sh", "yaml"}, block.line
    assert clients().keys() == {"python", "js", "sh"}


EXAMPLES = [block for block in GUIDE.blocks("sh") if not is_client(block)]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_the_examples_run(example: Block, served: Served, population: Population, tmp_path: Path) -> None:
    """With a curl that fails where the gateway refuses."""
    curl = optional_program("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    (tmp_path / "curl").write_text(f'#!/bin/sh\nexec {curl} --fail-with-body "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    session = population.waiting if "approvals" in example.text else population.succeeded
    process = await asyncio.create_subprocess_exec(
        "sh", "-eu", "-c", f'AUTH="Authorization: Bearer $STELLWERK_TOKEN"\n{example.text}',
        env={
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STELLWERK_URL": served.url,
            "STELLWERK_TOKEN": TOKEN,
            "STELLWERK_SESSION": str(population.running.session.session_id),
            "STELLWERK_STEP_TOKEN": str(population.running.token),
            "SESSION": str(session),
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    if "SESSION=$(" in example.text:  # it follows the session that it submits, to the end
        await cancel_the_newest(served, population)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    if "SESSION=$(" in example.text:
        assert re.findall("^(?:id|event): .*", output.decode(), re.MULTILINE) == [
            "id: 0", "event: stream", "id: 1", "event: session", "id: 2", "event: session", "id: 2", "event: end",
        ]  # fmt: skip


async def cancel_the_newest(served: Served, population: Population) -> None:
    """As soon as there is one that was not there before."""
    known = {str(session_id) for session_id in (*population.open, *population.closed)}
    async with asyncio.timeout(30):
        while not (new := {s["session_id"] for s in (await served.client.get("/sessions")).json()["sessions"]} - known):
            await asyncio.sleep(0.02)
    await served.client.post(f"/sessions/{new.pop()}/cancel")


PROBLEM = "urn:stellwerk:problem:"


async def test_every_type_of_problem_is_named(
    served: Served, population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row of the table comes about, with its status."""
    running, step = str(population.running.session.session_id), population.running.token
    key, by_step = {"Idempotency-Key": "one"}, {"Authorization": f"Bearer {step}"}
    by_another = {"Authorization": f"Bearer {replace(step, lease=uuid4())}"}
    report = {"progress": 1, "message": "x"}
    large = report | {"details": {"log": "x" * 300_000}}

    async def ask(method: str, path: str, **more: Any) -> tuple[str, str]:
        answer = await served.client.request(method, path.format(running), **more)
        problem = answer.json()
        assert problem["status"] == answer.status_code
        return problem["type"].removeprefix(PROBLEM), str(answer.status_code)

    async def ask_exhausted() -> tuple[str, str]:
        """As after ten thousand reports."""
        statement = text("UPDATE steps SET reports = :so_many, reporting_attempt = attempt WHERE lease_token = :lease")
        async with transaction(served.gateway.engine) as db:
            await db.execute(statement, {"so_many": 10_000, "lease": step.lease})
        said = await ask("POST", "/sessions/{}/events", json=report, headers=by_step)
        async with transaction(served.gateway.engine) as db:
            await db.execute(statement, {"so_many": 0, "lease": step.lease})
        return said

    asking = await waiting(served.gateway.backends, answer_schema={"type": "integer"})
    asked = await question_of(served, asking)
    auditor = (await served.client.post("/keys", json={"name": "auditor", "scopes": ["audit"]})).json()["key"]
    assert (await served.client.post("/sessions", json={"task": "x"}, headers=key)).status_code == 201
    first = await served.client.post(f"/sessions/{running}/events", json=report, headers=by_step | key)
    assert first.status_code == 201
    again = await served.client.post(f"/sessions/{running}/events", json=report, headers=by_step | key)
    assert again.json() == first.json()
    odd = [RefusedWorkflow("odd", "a.module", "it is odd")]
    async with transaction(served.gateway.engine) as db:
        await worker_repository.register_worker(db, "worker-2", starts=True, served=[], refused=odd)
    found = [
        await ask("GET", "/sessions/{}/events?after=x"),
        await ask("GET", "/sessions/{}/events?from=9"),
        await ask("POST", "/sessions", content=b"\xff", headers={"Content-Type": "application/json"}),
        await ask("GET", "/sessions", headers={"Authorization": "Bearer x"}),
        await ask("GET", "/sessions", headers={"Authorization": f"Bearer {new_key()}"}),
        await ask("GET", "/sessions", headers={"Authorization": f"Bearer {auditor}"}),
        await ask("GET", "/sessions", headers={"Origin": "https://example.com"}),
        await ask("GET", f"/sessions/{uuid4()}"),
        await ask("DELETE", "/sessions"),
        await ask("POST", "/sessions/{}/retry"),
        await ask("POST", "/sessions/{}/events", json=report, headers=by_another),
        await ask("POST", "/sessions/{}/approvals/1", json={"verdict": "approved"}),
        await ask("POST", f"/sessions/{asking}/approvals/1", json={"verdict": "approved"}),
        await ask("GET", "/sessions/{}/events?after=99"),
        await ask("POST", "/sessions/{}/events", json=large, headers=by_step),
        await ask_exhausted(),
        await ask("POST", "/sessions", content=b" " * (MAX_BODY_BYTES + 1)),
        await ask("GET", "/sessions", headers={"Host": "example.com"}),
        await ask("POST", "/sessions", json={"tsk": "x"}),
        await ask("POST", f"/sessions/{asking}/approvals/1", json={"verdict": "approved", "question": asked}),
        await ask("POST", "/keys", json={"name": "owner", "scopes": ["read"]}),
        await ask("POST", "/sessions", json={"task": "x", "workflow": "another"}),
        await ask("POST", "/sessions", json={"task": "x", "workflow": "odd"}),
        await ask("POST", "/sessions", json={"task": "x", "path": "/elsewhere"}),
        await ask("POST", "/sessions", json={"task": "y"}, headers=key),
        await ask("POST", "/sessions/{}/events", json=report | {"message": "y"}, headers=by_step | key),
    ]
    for error in (TooMany("too many"), Altered, RuntimeError, Unavailable, NoWorkerYet, DiskFull):
        with monkeypatch.context() as patch:
            patch.setattr(approvals, "list_approvals", AsyncMock(side_effect=error))
            found.append(await ask("GET", "/approvals"))
    large_body = {row[0]: row for row in table("`type`")}["`request-entity-too-large`"]
    assert "content-too-large" in large_body[2]  # as Python calls it from 3.13 on
    of_this_python = {"content-too-large": "request-entity-too-large"}
    listed = [(NAME.findall(name)[0], status) for name, status, _ in table("`type`")]
    assert [(of_this_python.get(name, name), status) for name, status in found] == listed
