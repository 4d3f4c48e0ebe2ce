"""Each operation of the document, with each scope: what is one's own is there, what is another project's is not."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import unquote_plus

import httpx
import pytest
from fastapi.routing import APIRoute

from app.embedded.valkey import EmbeddedValkey
from app.principals.model import EVERY_SCOPE, Scope
from tests.keyed import make_key, showing
from tests.operations import BY_STEP, FREE, OPEN, OPERATIONS, SHARED, UNDOCUMENTED, VALUES, Asked
from tests.places import Place, inhabited
from tests.serving import Served, serving

_numbers = count(1)
SCOPES: Sequence[frozenset[Scope]] = sorted(
    {frozenset({scope}) for scope in EVERY_SCOPE}
    | {EVERY_SCOPE - {scope} for scope in EVERY_SCOPE}
    | {EVERY_SCOPE, EVERY_SCOPE - {"audit", "admin"}},
    key=sorted,
)
MADE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|[0-9a-f]{64}|stwt?_[\w-]+|\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|\+00:00)|"
    r"retry: \d+|[0-9a-f]{32}"
)
"""What is new in every answer."""


@dataclass(frozen=True, slots=True)
class World:
    """One gateway, the project whose keys ask, another one, and ids that were never given to anything."""

    served: Served
    document: dict[str, Any]
    own: Place
    other: Place
    nowhere: Place
    clients: dict[frozenset[Scope], httpx.AsyncClient]

    @property
    def client(self) -> httpx.AsyncClient:
        return self.clients[EVERY_SCOPE]


@dataclass(frozen=True, slots=True)
class House:
    """One gateway for all tests, and the project whose holdings are looked for."""

    served: Served
    document: dict[str, Any]
    other: Place


@pytest.fixture(scope="module")
async def house(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[House]:
    async with serving(shared_database_url, valkey.url, project_rate=100_000) as served:
        document = (await served.client.get("/openapi.json")).json()
        yield House(served, document, await inhabited(served, "quokka"))


@pytest.fixture
async def world(house: House) -> AsyncIterator[World]:
    """A project of the test's own: what its requests name stands in it afterwards."""
    own = await inhabited(house.served, f"numbat{next(_numbers)}")
    async with AsyncExitStack() as stack:
        clients = dict[frozenset[Scope], httpx.AsyncClient]()
        for scopes in SCOPES:
            key = await make_key(house.served, *sorted(scopes), project=own.project)
            clients[scopes] = await stack.enter_async_context(showing(house.served, key))
        yield World(house.served, house.document, own, house.other, house.other.nowhere(), clients)


def operations(world: World) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in world.document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def guarded(world: World) -> Iterator[tuple[str, dict[str, Any], frozenset[Scope]]]:
    """Operations that need a scope, with the scopes of which they want one."""
    for name, operation in operations(world):
        if name in OPERATIONS:
            ((needed),) = operation["security"]
            yield name, operation, frozenset(needed["bearer"])


async def ask(client: httpx.AsyncClient, name: str, asked: Asked) -> httpx.Response:
    method, _, path = name.partition(" ")
    return await client.request(
        method, path.format(**asked.path), params=asked.query, headers=asked.header, json=asked.body
    )


def fields_of(world: World, operation: dict[str, Any]) -> dict[str, Any]:
    """The properties of the operation's body."""
    if "requestBody" not in operation:
        return {}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    (reference,) = (one["$ref"] for one in (schema, *schema.get("anyOf", ())) if "$ref" in one)
    properties: dict[str, Any] = world.document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
    return properties


def variants(world: World, name: str, operation: dict[str, Any], place: Place) -> Iterator[Asked]:
    """The own project's request with one thing in it from `place`, and with everything from there."""
    own = OPERATIONS[name](world.own)
    for parameter in operation.get("parameters", ()):
        where, what = parameter["in"], parameter["name"]
        if what == "Idempotency-Key" and name != "POST /sessions":
            continue  # what one of them did, the next one would find done
        for value in VALUES[what](place):
            yield own.having(where, what, value)
    for what in fields_of(world, operation):
        if what in VALUES:
            for value in VALUES[what](place):
                yield own.having("body", what, value)
    yield OPERATIONS[name](place)


def told(answer: httpx.Response, asked_of: Place, other: Place) -> tuple[int, str, dict[str, str]]:
    """What an answer says, with the other project's names in place of those that were asked for."""
    text = answer.text.replace(asked_of.word, other.word)
    for mine, theirs in zip(asked_of.ids, other.ids, strict=True):
        text = text.replace(mine, theirs)
    text = re.sub(
        r'("head":|"offset":|id: |"(?:next|previous)":"?)\d+|"head_chain":"[0-9a-f]+"', "…", MADE.sub("…", text)
    )
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    if answer.is_success:
        headers.pop("content-length", None)
    return answer.status_code, text, headers | {"location": MADE.sub("…", headers.get("location", ""))}


def leaks(answer: httpx.Response, other: Place) -> list[str]:
    """What an answer says of the other project, however it is written."""
    said = answer.text + "\n" + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    unescaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), said)
    whole = "\n".join((said, unquote_plus(said), unescaped)).casefold()
    secrets = (other.word, *(secret for secret in other.ids))
    return [whole[max(0, whole.index(secret) - 80) :][:200] for secret in secrets if secret in whole]


async def test_no_operation_was_forgotten(world: World) -> None:
    assert {name for name, _ in operations(world)} == OPERATIONS.keys() | BY_STEP.keys() | OPEN
    hidden = {
        f"{method} {route.path}"
        for included in world.served.app.routes
        for route in vars(included)["original_router"].routes
        if isinstance(route, APIRoute) and not route.include_in_schema
        for method in route.methods or ()
    }
    assert hidden == UNDOCUMENTED
    for name, operation in operations(world):
        if name in OPEN:
            assert "security" not in operation, name
        elif name in BY_STEP:
            assert operation["security"] == [{"bearer": []}], name
        else:
            asked = OPERATIONS[name](world.own)
            parameters = operation.get("parameters", ())
            assert operation["security"][0]["bearer"], f"{name} needs no scope"
            assert {p["name"] for p in parameters} <= VALUES.keys(), f"{name}: say what its parameters are asked with"
            assert fields_of(world, operation).keys() <= VALUES.keys() | FREE, f"{name}: say it of its body's fields"
            needed = {p["name"] for p in parameters if p["required"]}
            assert needed == asked.path.keys() | asked.query.keys(), f"{name}: say what it gives without them"


async def test_a_scope_opens_what_is_ones_own(world: World) -> None:
    for name, _, needed in guarded(world):
        for scopes, client in world.clients.items():
            answer = await ask(client, name, OPERATIONS[name](world.own))
            if scopes & needed:
                assert answer.status_code not in {401, 403, 404, 422, 500}, (name, scopes, answer.text)
            else:
                problem = answer.json()
                assert (answer.status_code, problem["type"]) == (403, "urn:stellwerk:problem:missing-scope"), name
                said = problem["detail"].partition("it needs the scope ")[2].partition(", and has ")[0]
                assert set(said.split(" or ")) == needed, (name, said)


async def test_what_is_another_projects_is_as_if_it_did_not_exist(world: World) -> None:
    for name, operation, _ in guarded(world):
        others, unknown = (list(variants(world, name, operation, place)) for place in (world.other, world.nowhere))
        for theirs, nowhere in zip(others, unknown, strict=True):
            if theirs == nowhere or (theirs.body or {}).keys() & SHARED:
                continue  # it names nothing of theirs
            # Whatever scopes they have: without the right one, they do not even learn whether an id is theirs.
            for scopes, client in world.clients.items():
                if len(scopes) not in {1, len(EVERY_SCOPE)}:
                    continue
                first = told(await ask(client, name, theirs), world.other, world.other)
                assert first == told(await ask(client, name, nowhere), world.nowhere, world.other), (name, theirs)
                assert first[0] in {403, 404} or not theirs.path or theirs.path == OPERATIONS[name](world.own).path


async def test_no_answer_tells_of_another_project(world: World) -> None:
    """What the request itself named is no news, so here it names nothing of theirs."""
    for name, operation, _ in guarded(world):
        for asked in (OPERATIONS[name](world.own), *variants(world, name, operation, world.nowhere)):
            answer = await ask(world.client, name, asked)
            if answer.status_code == 422 and "no worker serves a workflow" in answer.text:
                # Workflows are the deployment's: every project may submit them, so the answer names them all.
                text = answer.text.replace("quokka-flow", "…")
                answer = httpx.Response(422, text=text, headers={"x-request-id": answer.headers["x-request-id"]})
            assert leaks(answer, world.other) == [], (name, asked)
    for name in ("/", "/openapi.json", "/dashboard/app.js", "/nothing", "/healthz", "/readyz"):
        assert leaks(await world.client.get(name), world.other) == [], name


async def test_the_other_projects_words_are_where_one_looks_for_them(house: House) -> None:
    """The search above would find them: their own key gets each of them."""
    other, seen = house.other, ""
    assert other.key is not None
    async with showing(house.served, other.key) as client:
        for name in OPERATIONS:
            if name.startswith("GET"):
                seen += (await ask(client, name, OPERATIONS[name](other))).text
        for session_id in (other.waiting, other.answered, other.failed, other.cancelled, other.running):
            seen += (await client.get(f"/sessions/{session_id}/export")).text
    expected = "task input field flow agent worker queue message detail value prompt reply provider model question"
    expected += " answer comment why reason refused request summary file artifact error key spare project"
    expected += " context tag wanted"
    assert {f"quokka-{what}" for what in expected.split()} <= set(re.findall(r"quokka-[a-z]+", seen))
    for way in (r"{\"x\":\"\u0071uokka\"}", "%71uokka", "QUOKKA", other.digest):
        assert leaks(httpx.Response(200, text=way), other), way
    assert leaks(httpx.Response(404, headers={"location": "/x/%71uokka"}), other)


async def test_reports_are_opened_by_a_steps_token_alone(world: World) -> None:
    for name, request in BY_STEP.items():
        for place in (world.own, world.other, world.nowhere):
            for client in world.clients.values():
                assert (await ask(client, name, request(place))).status_code == 401
            step = request(place).having("header", "Authorization", f"Bearer {world.own.step_token}")
            answer = await ask(world.client, name, step)
            assert answer.status_code == (201 if place is world.own else 401), answer.text
            assert leaks(answer, world.other) == [] or place is world.other
