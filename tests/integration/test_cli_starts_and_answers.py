"""`stellwerk submit` with a context, a config and a session to continue; `approvals` and `answer` with a schema."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.answering import question_of
from tests.populating import ended, waiting
from tests.serving import TOKEN, Served, serving
from tests.stacks import stellwerk

SCHEMA: dict[str, Any] = {"type": "object", "required": ["budget"], "properties": {"budget": {"type": "integer"}}}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def said(served: Served, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    variables = {"STELLWERK_URL": served.url, "STELLWERK_TOKEN": TOKEN, "COLUMNS": "200"}
    return await asyncio.to_thread(stellwerk, home, *arguments, variables=variables)


async def test_submit_with_all_that_a_session_takes(served: Served, home: Path, tmp_path: Path) -> None:
    parent = await ended(served.gateway.backends)
    file = tmp_path / "context.json"
    file.write_text('{"user": "ada"}')
    config = '{"tags": ["short"], "recursion_limit": 9}'
    given = ("--context", f"@{file}", "--config", config, "--continues", str(parent)[-9:])
    done = await said(served, home, "submit", "and in short?", *given)
    assert done.returncode == 0, done.stderr
    session_id = done.stdout.strip()
    first = (await served.client.get(f"/sessions/{session_id}/events")).json()["events"][0]
    assert first["context"] == {"user": "ada"}
    assert first["config"] == {"tags": ["short"], "recursion_limit": 9}
    assert first["continues"]["session_id"] == str(parent)
    shown = await said(served, home, "show", session_id)
    assert f"continues         {parent}" in shown.stdout


async def test_prune_leaves_what_is_to_be_taken_over(served: Served, home: Path) -> None:
    parent, other = await ended(served.gateway.backends), await ended(served.gateway.backends)
    made = await served.create_session(continues=str(parent))
    root = Settings(home=home).workspaces_dir
    for name in (str(parent), str(other)):
        (root / name).mkdir(parents=True)
    assert (await said(served, home, "prune", "--older-than", "0s")).stdout.split() == [str(root / str(other))]
    (root / made["session_id"]).mkdir()
    assert (await said(served, home, "prune", "--older-than", "0s")).stdout.split() == [str(root / str(parent))]


async def test_what_cannot_be_is_said_before_anything_is_sent(served: Served, home: Path) -> None:
    for arguments, reason in (
        (("--context", "[]"), "--context must be a JSON object"),
        (("--config", "{"), "--config is no JSON"),
        (("--context", "@missing"), "--context: missing cannot be read"),
        (("--continues", "x", "--path", "."), "leave out --path and --repo"),
        (("--config", '{"configurable": {"thread_id": "x"}}'), "thread_id: LangGraph keeps this for itself"),
    ):
        done = await said(served, home, "submit", "x", *arguments)
        assert done.returncode == 2
        assert reason in " ".join(done.stderr.split())
    assert (await served.client.get("/sessions")).json()["sessions"] == []


async def test_an_answer_that_does_not_fit_is_told_what_would(served: Served, home: Path) -> None:
    session_id = str(await waiting(served.gateway.backends, "how much?", answer_schema=SCHEMA))
    listed = await said(served, home, "approvals")
    assert '"required":["budget"]' in "".join(listed.stdout.split())

    asks = await said(served, home, "answer", session_id, "1", "--verdict", "approved")
    assert asks.returncode == 2
    question = await question_of(served, session_id)
    assert "step 1 (architect) asks, as 7: how much?" in asks.stderr and f"add --question {question}" in asks.stderr

    place = (session_id, "1", "--question", question)
    refused = await said(served, home, "answer", *place, "--verdict", "approved")
    assert refused.returncode == 2
    told = " ".join(refused.stderr.split())
    assert "the answer is not what the step asks for: 'approved' is not of type 'object'" in told
    assert 'allowed is what fits {"type":"object","required":["budget"]' in told

    stale = await said(served, home, "answer", session_id, "1", "--question", "6", "--answer", '{"budget": 3}')
    assert stale.returncode == 1 and "it asks now, as 7: how much?" in stale.stderr
    answered = await said(served, home, "answer", *place, "--answer", '{"budget": 3}')
    assert answered.returncode == 0, answered.stderr


async def test_a_question_without_a_schema_wants_anything(served: Served, home: Path) -> None:
    await waiting(served.gateway.backends)
    assert "anything" in (await said(served, home, "approvals")).stdout
