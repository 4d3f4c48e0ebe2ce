"""The published document against the gateway: whatever is sent, nothing breaks, and answers are as described."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from app.events.proof.entries import stream_ids, verify_stream
from app.principals.model import OWNER
from app.principals.service import create_key
from tests.answering import question_of
from tests.populating import Population, created, ended, populate
from tests.serving import BEARER, Served, serving

SEED = 20261103
EXAMPLES = 40
SESSION_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
OFF = {"enabled": False}


@pytest.fixture
async def served(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(database_url, redis_url) as served:
        yield served


async def test_every_event_in_a_page_validates(served: Served) -> None:
    population = await populate(served.gateway.backends)
    document = (await served.client.get("/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/Event", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    kinds = Counter[str]()
    for session_id in (*population.open, *population.closed):
        page = (await served.client.get(f"/sessions/{session_id}/events", params={"limit": 1000})).json()
        assert [event["offset"] for event in page["events"]] == list(range(1, page["head"] + 1))
        for event in page["events"]:
            validator.validate(event)
            kinds[event["t"]] += 1
    assert kinds.keys() == {"session_event", "step_event", "agent_event", "workflow_event", "approval_event"}
    for broken in ({"t": "agent_event"}, event | {"t": "no_event"}, event | {"offset": "1"}, event | {"status": "?"}):
        assert not validator.is_valid(broken)


def configuration(
    url: str, population: Population, question: str, spare: list[str], failed: list[str], keys: list[str]
) -> schemathesis.Config:
    """Most requests name a thing that is there, so that they get beyond the door."""
    dictionaries = {
        "sessions": [str(session_id) for session_id in (*population.open, *population.closed)],
        "closed": closed_for_good(population),
        "running": [str(population.running.session.session_id)],
        "waiting": [str(population.waiting)],
        "spare": spare,
        "failed": failed,
        "revoked": keys[:1],
        "rotated": keys[1:],
        "artifacts": [population.artifact],
        "steps": [1, 2],
        "offsets": ["1", "2"],
        "asking": [1],
        "verdicts": ["approved", "rejected"],
        "questions": [question],
        "cursors": ["0", "1", "3", "latest", "999"],
        "workflows": ["repair"],
    }

    def often(dictionary: str) -> dict[str, Any]:
        return {"dictionary": dictionary, "probability": 0.8}

    def chosen(operation: str, **more: Any) -> dict[str, Any]:
        return {"include-name": operation, **more}

    session = "path.session_id"
    return schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "base-url": url,
            "headers": BEARER,
            "request-timeout": 10,
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "database": "none", "no-shrink": True},
            "dictionaries": {name: {"values": values} for name, values in dictionaries.items()},
            "parameters": {
                session: often("sessions"),
                "query.session_id": often("sessions"),
                "query.after": often("cursors"),
                "path.step": often("steps"),
                "path.offset": often("offsets"),
                "path.digest": often("artifacts"),
                "body.workflow": often("workflows"),
            },
            "operations": [
                chosen("GET /events", parameters={"query.session_id": often("closed")}),
                chosen("GET /sessions/{session_id}/patch", parameters={session: often("closed")}),
                chosen("GET /sessions/{session_id}/artifacts/{digest}", parameters={session: often("closed")}),
                chosen(
                    "POST /sessions/{session_id}/approvals/{step}",
                    parameters={
                        session: {"dictionary": "waiting"},
                        "path.step": {"dictionary": "asking"},
                        "body.verdict": often("verdicts"),
                        "body.question": often("questions"),
                    },
                ),
                chosen("POST /sessions/{session_id}/cancel", parameters={session: often("spare")}),
                chosen("POST /keys/{key_id}/revoke", parameters={"path.key_id": often("revoked")}),
                chosen("POST /keys/{key_id}/rotate", parameters={"path.key_id": often("rotated")}),
                chosen("POST /sessions/{session_id}/retry", parameters={session: often("failed")}),
                chosen(
                    "POST /sessions/{session_id}/events",
                    parameters={session: often("running")},
                    headers={"Authorization": f"Bearer {population.running.token}"},
                ),
            ],
            # Drawn at random, `agent=false` counts as "no text", though in an address everything is.
            "phases": {phase: {"checks": {"negative_data_rejection": OFF}} for phase in ("fuzzing", "stateful")},
            "checks": {
                # A cursor that is no offset of this stream is refused with 410.
                "negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 410, 413, 415, 422]},
                # A workflow that nobody serves, a key that was used, a lease that ended: no schema can tell.
                "positive_data_acceptance": OFF,
                # A new session has no patch yet.
                "ensure_resource_availability": OFF,
            },
        }
    )


def closed_for_good(population: Population) -> list[str]:
    """A failed one may be retried."""
    return [str(population.succeeded), str(population.cancelled)]


async def test_whatever_is_sent_nothing_breaks(served: Served) -> None:
    backends = served.gateway.backends
    population = await populate(backends)
    spare = [str(await created(backends)) for _ in range(5)]
    failed = [str(await ended(backends, "failed")) for _ in range(5)]
    made = [await create_key(backends, name=f"key-{n}", scopes=["read"], principal=OWNER) for n in range(9)]
    keys = [str(key.key_id) for key, _ in made]
    document = (await served.client.get("/openapi.json")).json()
    question = await question_of(served, population.waiting)
    configured = configuration(served.url, population, question, spare, failed, keys)
    schema = schemathesis.openapi.from_dict(document, config=configured)

    @schema.hook
    def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
        """The stream of an open session would be waited for for ever."""
        named = set(SESSION_ID.findall(str(case.query)))
        return case.path != "/events" or named <= set(closed_for_good(population))

    failures, answered = await asyncio.to_thread(explore, schema)
    assert not failures, "\n".join(failures)
    engine = backends.engine
    assert [fault async for stream in stream_ids(engine) async for fault in verify_stream(engine, stream)] == []
    reached = {operation: statuses for operation, statuses in answered.items() if statuses & {200, 201}}
    assert reached.keys() == {f"{m.upper()} {path}" for path, methods in document["paths"].items() for m in methods}


def explore(schema: schemathesis.BaseSchema) -> tuple[list[str], dict[str, set[int]]]:
    """What failed, and which statuses each operation was seen to answer with."""
    failures, answered = list[str](), defaultdict[str, set[int]](set)
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                failures += [
                    f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
                    for checks in recorder.checks.values()
                    for check in checks
                    if check.failure_info is not None
                ]
                for case_id, interaction in recorder.interactions.items():
                    if interaction.response is not None:
                        operation = recorder.cases[case_id].value.operation.label
                        answered[operation].add(interaction.response.status_code)
            case events.NonFatalError(value=error) | events.FatalError(exception=error):
                failures.append(repr(error))
    return failures, answered
