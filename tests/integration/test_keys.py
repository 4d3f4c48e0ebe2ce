"""Keys over HTTP: made, listed, revoked, rotated; what is kept of them, and what is not."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.errors import UnknownKey
from app.principals import service
from app.principals.model import Principal, Scope
from app.principals.secrets import new_key
from tests.keyed import Keyed, control_events, make_key, revoke, showing, ticket_of
from tests.serving import Served, serving

FINE: dict[str, Any] = {"name": "ci", "scopes": ["read"]}


@pytest.fixture(scope="module")
async def shared(shared_database_url: str, valkey: Any) -> AsyncIterator[Served]:
    """Each test has a project of its own."""
    async with serving(shared_database_url, valkey.url) as served:
        yield served


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": name} for name in ("", "owner", "a b", "x" * 101, "a\x00", None, 1)),
        *({"scopes": scopes} for scopes in ([], ["root"], "read", ["read"] * 21, None, ["READ"], [""])),
        *({"project": project} for project in ("", "stellwerk", "Web", "a b", "x" * 64, "a\x00", 1)),
        *({"expires_in": seconds} for seconds in (0, -1, 1.5, "1", 2**70, True)),
        *({"reason": reason} for reason in ("x" * 10_001, "a\x00", 1)),
        {"unknown": 1},
    ],
)
async def test_what_cannot_be_a_key(shared: Served, changes: dict[str, Any]) -> None:
    answer = await shared.client.post("/keys", json={**FINE, **changes})
    assert answer.status_code == 422, answer.text


async def test_a_key_says_what_it_is_and_is_told_once(shared: Served) -> None:
    body = FINE | {"project": "once", "scopes": ["read", "audit", "read"], "expires_in": 3600, "reason": "for CI"}
    answer = await shared.client.post("/keys", json=body)
    made = answer.json()
    record = made["record"]
    assert (record["name"], record["project"], record["scopes"]) == ("ci", "once", ["audit", "read"])
    assert (record["created_by"], record["revoked_at"], record["successor"], record["in_force"]) == (
        *("owner", None, None),
        True,
    )
    listed = await shared.client.get("/keys")
    assert made["key"] not in listed.text and record in listed.json()["keys"]
    (event,) = await control_events(shared, "once")
    assert (event["action"], event["target"], event["reason"]) == ("key.create", record["key_id"], "for CI")
    digest = hashlib.sha256(made["key"].encode()).hexdigest()
    told = {"name": "ci", "scopes": ["audit", "read"], "digest": digest}
    assert event["details"] == told | {"expires_at": event["details"]["expires_at"]}
    assert made["key"] not in str(event)


async def test_a_name_is_taken_until_its_key_ends(shared: Served) -> None:
    first = await make_key(shared, "read", project="names", name="ci")
    await make_key(shared, "read", project="elsewhere", name="ci")
    taken = await shared.client.post("/keys", json=FINE | {"project": "names"})
    assert taken.status_code == 409
    assert (await revoke(shared, first)).status_code == 200
    assert (await revoke(shared, first)).json()["revoked_at"]
    brief = await make_key(shared, "read", project="names", name="ci", expires_in=1)
    async with asyncio.timeout(10):
        while (await shared.client.post("/keys", json=FINE | {"project": "names"})).status_code == 409:
            await asyncio.sleep(0.05)
    of_project = [k for k in (await shared.client.get("/keys")).json()["keys"] if k["project"] == "names"]
    assert [key["in_force"] for key in of_project] == [True, False, False]
    assert [key["key_id"] for key in of_project][1:] == [brief.key_id, first.key_id]
    outcomes = Counter(e["outcome"] for e in await control_events(shared, "names") if e["action"] == "key.revoke")
    assert outcomes == {"done": 1, "unchanged": 1}


async def test_a_project_names_no_other_one(shared: Served) -> None:
    admin = await make_key(shared, "admin", "submit", project="mine")
    async with showing(shared, admin) as client:
        for project, status in (("mine", 201), ("elsewhere", 422), ("nowhere", 422)):
            answer = await client.post("/keys", json=FINE | {"project": project})
            assert answer.status_code == status, answer.text
            assert (await client.post("/sessions", json={"task": "x", "project": project})).status_code == status
        told = [(await client.post("/keys", json=FINE | {"project": p})).text for p in ("elsewhere", "nowhere-")]
        assert told[0] == told[1]
        mine = (await client.get("/keys")).json()["keys"]
        assert {key["project"] for key in mine} == {"mine"}


async def test_the_last_admin_does_not_lock_its_project(shared: Served) -> None:
    admin = await make_key(shared, "admin", "audit", project="last")
    await make_key(shared, "read", project="last")
    refused = await revoke(shared, admin, by=admin)
    assert refused.status_code == 409 and "last key with the scope admin" in refused.json()["detail"]
    second = await make_key(shared, "admin", project="last", expires_in=1)
    async with asyncio.timeout(10):  # one that has expired is none
        while (await shared.client.get("/keys", headers=second.headers)).status_code == 200:
            await asyncio.sleep(0.05)
    assert (await revoke(shared, admin, by=admin)).status_code == 409
    third = await make_key(shared, "admin", project="last")
    rotated = await shared.client.post(f"/keys/{third.key_id}/rotate", headers=admin.headers)
    assert (await revoke(shared, admin, by=admin)).status_code == 200
    assert (await revoke(shared, third, by=third)).status_code == 200, "its successor is there"
    successor = Keyed(rotated.json()["key"], rotated.json()["record"]["key_id"], third.name, "last")
    assert (await revoke(shared, successor, by=successor)).status_code == 409
    assert (await revoke(shared, successor)).status_code == 200, "the owner may"
    outcomes = [e["outcome"] for e in await control_events(shared, "last") if e["action"] == "key.revoke"]
    assert outcomes == ["refused", "refused", "done", "done", "refused", "done"]


async def test_of_two_admins_that_revoke_themselves_at_once_one_is_refused(shared: Served) -> None:
    for number in range(10):
        two = [await make_key(shared, "admin", project=f"two{number}") for _ in range(2)]
        answers = await asyncio.gather(*(revoke(shared, key, by=key) for key in two))
        assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_rotated_key_goes_on_under_its_name(shared: Served) -> None:
    """So what was submitted before is found by its Idempotency-Key, and by no other project or name."""
    scopes: tuple[Scope, ...] = ("submit", "read")
    old = await make_key(shared, *scopes, project="turn", name="ci")
    strangers = [await make_key(shared, *scopes, project="elsewhere2", name="ci")]
    strangers.append(await make_key(shared, *scopes, project="turn", name="other"))
    body, once = {"task": "x"}, {"Idempotency-Key": "once"}
    first = await shared.client.post("/sessions", json=body, headers=old.headers | once)
    rotated = (await shared.client.post(f"/keys/{old.key_id}/rotate", json={"reason": "yearly"})).json()
    new = Keyed(rotated["key"], rotated["record"]["key_id"], "ci", "turn")
    assert (rotated["record"]["name"], rotated["record"]["scopes"]) == ("ci", ["read", "submit"])
    for key in (old, new):
        again = await shared.client.post("/sessions", json=body, headers=key.headers | once)
        assert (again.status_code, again.json()["session_id"]) == (200, first.json()["session_id"])
    assert (await shared.client.post("/sessions", json={"task": "y"}, headers=new.headers | once)).status_code == 422
    found = set[str]()
    for stranger in strangers:
        other = await shared.client.post("/sessions", json={"task": "other"}, headers=stranger.headers | once)
        assert other.status_code == 201
        found.add(other.json()["session_id"])
    assert len(found | {first.json()["session_id"]}) == 3
    assert (await shared.client.post(f"/keys/{old.key_id}/rotate")).status_code == 409
    listed = {key["key_id"]: key for key in (await shared.client.get("/keys")).json()["keys"]}
    assert listed[old.key_id]["successor"] == new.key_id and listed[old.key_id]["expires_at"]
    at_once = await shared.client.post(f"/keys/{new.key_id}/rotate", json={"valid_for": 0})
    assert at_once.status_code == 201
    async with asyncio.timeout(10):
        while (await shared.client.get("/approvals", headers=new.headers)).status_code == 200:
            await asyncio.sleep(0.05)
    assert (await shared.client.post(f"/keys/{new.key_id}/rotate")).status_code == 409


async def test_a_successor_lives_as_long_as_its_key_was_made_for(shared: Served) -> None:
    old = await make_key(shared, "read", project="lives", expires_in=3600)
    record = (await shared.client.post(f"/keys/{old.key_id}/rotate", json={"valid_for": 7200})).json()["record"]
    assert record["expires_at"] is not None
    listed = {key["key_id"]: key for key in (await shared.client.get("/keys")).json()["keys"]}
    assert listed[old.key_id]["expires_at"] < record["expires_at"], "the old one does not live longer than before"


async def test_no_table_and_no_log_line_holds_a_key_or_a_ticket(
    shared: Served, shared_database_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    key = await make_key(shared, "read", "submit", "admin", project="kept", name="kept")
    async with showing(shared, key) as client:
        session_id = (await client.post("/sessions", json={"task": "x"})).json()["session_id"]
        ticket = await ticket_of(shared, key, session_id)
        await client.get(f"/sessions/{session_id}/events", params={"ticket": ticket, "token": key.key})
        rotated = (await client.post(f"/keys/{key.key_id}/rotate")).json()["key"]
    async with showing(shared, None) as nothing:
        await nothing.get(f"/events?session_id={session_id}&ticket={ticket}&after=latest&limit=x")
        await nothing.get("/", params={"token": key.key})
        await nothing.post("/login", data={"key": key.key})
        await nothing.get("/sessions", headers={"Authorization": f"Bearer {key.key[:-1]}"})
    await shared.gateway.denials.flush()
    with psycopg.connect(shared_database_url) as db:
        tables = [name for (name,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert {"keys", "events", "sessions", "streams"} <= set(tables)
        kept = "".join(str(row) for table in tables for row in db.execute(f"SELECT t::text FROM {table} t".encode()))
    assert "kept" in kept
    output = capfd.readouterr()
    for secret in (key.key, ticket, rotated, key.key[4:36]):
        for where in (kept, kept.lower(), caplog.text, output.out, output.err):
            assert secret not in where
            assert secret.encode().hex() not in where


async def test_a_key_that_was_never_made_or_is_misspelt(shared: Served) -> None:
    key = await make_key(shared, "read")
    shown = {f"{key.key[:-1]}~": "access-denied", f"{key.key}x": "access-denied", "stw_": "access-denied"}
    for text, kind in (shown | {new_key(): "unknown-key"}).items():
        answer = await shared.client.get("/approvals", headers={"Authorization": f"Bearer {text}"})
        assert (answer.status_code, answer.json()["type"]) == (401, f"urn:stellwerk:problem:{kind}")
        assert answer.headers["www-authenticate"] == "Bearer"
    for scheme in ("bearer", "BEARER"):
        answer = await shared.client.get("/approvals", headers={"Authorization": f"{scheme} {key.key}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("address", ["/operators/events", "/operators/export", "/sessions", "/events"])
@pytest.mark.parametrize("project", ["%00", "", "x" * 64, "nowhere", "%ED%A0%80", "%F0%9F%A6%93", "a%20b"])
async def test_whatever_the_owner_names_as_a_project(shared: Served, address: str, project: str) -> None:
    """It exists or not, but nothing breaks."""
    answer = await shared.client.get(f"{address}?project={project}")
    assert answer.status_code in {200, 404, 422}, answer.text


async def test_a_key_that_was_revoked_leaves_no_other_behind(shared: Served) -> None:
    """Another gateway may believe it for some seconds more: what it does to keys then is refused."""
    lost, other = await make_key(shared, "admin", project="lost"), await make_key(shared, "admin", project="lost")
    principal = Principal(lost.key_id, lost.name, "lost", frozenset({"admin"}))
    assert (await revoke(shared, lost)).status_code == 200
    backends = shared.gateway.backends
    for act in (
        service.create_key(backends, name="heir", scopes=["admin"], principal=principal),
        service.revoke_key(backends, UUID(other.key_id), principal=principal),
        service.rotate_key(backends, UUID(other.key_id), valid_for=timedelta(0), principal=principal),
    ):
        with pytest.raises(UnknownKey):
            await act
    keys = [key for key in (await shared.client.get("/keys")).json()["keys"] if key["project"] == "lost"]
    assert {key["key_id"]: key["in_force"] for key in keys} == {lost.key_id: False, other.key_id: True}


async def test_two_that_revoke_each_other_at_once_leave_one(shared: Served) -> None:
    one, two = await make_key(shared, "admin", project="duel"), await make_key(shared, "admin", project="duel")
    answers = await asyncio.gather(revoke(shared, one, by=two), revoke(shared, two, by=one))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
