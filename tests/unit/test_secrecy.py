"""The door of the log: no known secret passes it by value, and what a fold reads comes back exactly."""

import asyncio
import base64
import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from app.config import Settings
from app.errors import UnknownSecret
from app.events import references
from app.events.encoding import encode
from app.events.secrecy import Secrecy
from app.key_shapes import HIDDEN
from app.known_secrets import Fingerprint, Secrets, passwords_in
from app.redaction import Redactor
from tests.values.identical import identical
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer

HOUSE = Path(__file__).parents[2]
KEY = "canary-Zq7/4pX+9mT=w2"
PASSWORD = 'p"a\\s s:w@rd/é'
SECRETS = Secrets({"OPENAI_API_KEY": KEY, "STELLWERK_DATABASE_URL.password": PASSWORD, "SHORT": "short"})
SECRECY = Secrecy(SECRETS)

WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded in lower case": lambda secret: re.sub(
        "%..", lambda found: found[0].lower(), quote(secret, safe="")
    ),
    "in a header": lambda secret: f"Authorization: Bearer {secret}",
    "base64 with a user before it": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
    "base64 with more around it": lambda secret: base64.b64encode(f"user:{secret}:x".encode()).decode(),
    "base64 for addresses": lambda secret: base64.urlsafe_b64encode(f"u:{secret}".encode()).decode(),
    "in JSON": lambda secret: orjson.dumps({"key": secret}).decode(),
    "in Python's JSON": lambda secret: json.dumps({"key": secret}),
    "in JSON in JSON": lambda secret: orjson.dumps(orjson.dumps({"key": secret}).decode()).decode(),
    "in HTML": lambda secret: f"<p>{html.escape(secret)}</p>",
    "twice": lambda secret: f"{secret}{secret}",
}


def is_in(secret: str, data: bytes | str) -> bool:
    """Says whether it can be read there, in any of these forms."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    core = base64.b64encode(f"me:{secret}".encode()).decode()[6:20]
    forms = (secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1], core)
    return any(form in text for form in forms)


@pytest.mark.parametrize("secret", [KEY, PASSWORD])
@pytest.mark.parametrize("written", WRITTEN)
def test_a_known_secret_is_named_in_what_is_exact_and_hidden_in_what_is_shown(written: str, secret: str) -> None:
    text = WRITTEN[written](secret)
    event: Any = {
        "t": "step_event",
        "step": 1,
        "agent": "codesmith",
        "status": "succeeded",
        "attempt": 1,
        "update": {"said": [f"before {text} after"], text: 1},
        "error": f"it was {text}",
    }
    stored = encode(event, max_bytes=100_000, secrecy=SECRECY)
    assert not is_in(secret, stored) and text not in stored
    read = orjson.loads(stored)
    assert HIDDEN in read["error"]
    assert SECRECY.resolved(read["update"]) == event["update"]


async def test_a_rotated_secret_is_the_new_one_and_an_unknown_one_is_an_error() -> None:
    kept = await SECRECY.kept({"header": f"Bearer {KEY}", "basic": quote(KEY, safe="")}, "exact")
    rotated = Secrecy(Secrets({"OPENAI_API_KEY": "a new/longer key"}))
    assert rotated.resolved(kept) == {"header": "Bearer a new/longer key", "basic": "a%20new%2Flonger%20key"}
    with pytest.raises(UnknownSecret, match="'OPENAI_API_KEY' is not set"):
        Secrecy(Secrets({})).resolved(kept)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text() | st.sampled_from([KEY, f"x{KEY}", PASSWORD]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["$secret", "items", KEY]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_what_a_client_sends_comes_back_whatever_it_looks_like(value: Any) -> None:
    stored = references.with_names(references.as_it_is(value), SECRETS)
    again = references.with_names(orjson.loads(orjson.dumps(stored)), SECRETS)
    assert again == stored
    assert not is_in(KEY, orjson.dumps(stored))
    assert references.resolved(stored, SECRETS) == value


def test_an_old_value_that_looks_a_little_like_a_reference_is_left_alone() -> None:
    looks: list[Any] = [{"$secret": "vault/path"}, {"$secret": []}, {"$secret": [1]}, {"$secret": {"key": 1}}]
    for value in looks:
        assert references.resolved(value, SECRETS) == value


VALUES = [
    AIMessage(f"the key is {KEY}", additional_kwargs={KEY: (KEY, {"x": b"bytes " + KEY.encode()})}),
    ({KEY: 1}, {(KEY, 2): {KEY}}, f"\ud800{KEY}", Path(f"/tmp/{'a' * 3}{KEY.replace('/', '-')}")),
    {"$secret": ["a", ["OPENAI_API_KEY", "plain"]]},
    {"nested": [[{"deep": (PASSWORD, 2**70, 1.5, None)}]]},
]


@pytest.mark.parametrize("value", VALUES, ids=[0, 1, 2, 3])
async def test_a_value_of_a_state_keeps_its_types_and_holds_no_secret(value: Any) -> None:
    codec = Codec(ExactSerializer([AIMessage], SECRETS))
    stored = orjson.dumps(await SECRECY.kept(codec.encode(value), "exact"))
    for text in re.findall(rb'"msgpack","([^"]*)"', stored):
        assert not is_in(KEY, base64.b64decode(text))
    assert not is_in(KEY, stored) and not is_in(PASSWORD, stored)
    assert identical(codec.decode(orjson.loads(stored)), value)


def test_a_snapshot_holds_no_secret_and_goes_on_with_a_rotated_one() -> None:
    serializer = ExactSerializer([], SECRETS)
    inner = serializer.dumps(("a", KEY))
    stored = serializer.dumps({"inner": inner, "key": f"x{KEY}y"})
    assert not is_in(KEY, stored) and serializer.loads(stored) == {"inner": inner, "key": f"x{KEY}y"}
    rotated = ExactSerializer([], Secrets({"OPENAI_API_KEY": "another one, which is longer than it was"}))
    assert rotated.loads(inner) == ("a", "another one, which is longer than it was")
    with pytest.raises(UnknownSecret):
        ExactSerializer().loads(inner)


def test_a_process_finds_what_it_knows_by_its_fingerprint_only() -> None:
    worker, gateway = Secrets({"OPENAI_API_KEY": KEY, "SMALL": "12345678"}), Secrets({})
    told = worker.fingerprints(["OPENAI_API_KEY", "SMALL", "UNSET"])
    assert {one.name for one in told} == {"OPENAI_API_KEY"} and not is_in(KEY, repr(told))
    gateway.learn([Fingerprint(**orjson.loads(orjson.dumps(one))) for one in told])
    stored = references.with_names({"a": [f"cana canary {KEY}!"]}, gateway)
    assert not is_in(KEY, orjson.dumps(stored)) and references.resolved(stored, worker) == {
        "a": [f"cana canary {KEY}!"]
    }
    assert Redactor(gateway).text(f"it is {KEY}.") == f"it is {HIDDEN}."
    for write in WRITTEN.values():
        assert not is_in(KEY, Redactor(gateway).text(write(KEY)))


def test_what_settings_hold_is_known_by_the_names_of_their_variables() -> None:
    settings = Settings(
        database_url="postgresql://stellwerk:p%40ss-word@db/stellwerk",
        redis_url="redis://:longenough@host/0",
        openai_base_url="https://token-in-an-address@models.example/v1",
        openai_api_key=cast("Any", KEY),
    )
    text = "p@ss-word, p%40ss-word, longenough, token-in-an-address"
    found = [(one.name, one.how) for one in Secrets.of(settings).found_in(text)]
    assert found == [
        ("STELLWERK_DATABASE_URL.password", "plain"),
        ("STELLWERK_DATABASE_URL.password", "percent"),
        ("STELLWERK_REDIS_URL.password", "plain"),
        ("OPENAI_BASE_URL.password", "plain"),
    ]


@pytest.mark.parametrize(
    ("address", "passwords"),
    [
        ("postgresql://me:p%40ss@host/name?sslmode=require", ["p@ss", "p%40ss"]),
        ("amqp://guest:one@a;amqp://guest:two@b", ["one", "two"]),
        ("postgresql://me:pa/s:s@host/name", ["pa/s:s"]),
        ("host=db password='pa ss' user=me", ["pa ss"]),
        ("postgresql://host/name?user=me&password=pass", ["pass"]),
        ("https://me:pass@host/v1", ["pass"]),
        ("https://token@host/v1", ["token"]),
        ("ssh://git@host/x", []),
    ],
)
def test_passwords_of_addresses(address: str, passwords: list[str]) -> None:
    assert passwords_in(address) == passwords


@pytest.mark.parametrize(
    "address", ["postgresql://stellwerk:stellwerk@db/x", "postgresql://me:database@db/database", "redis://h/0", "host"]
)
def test_a_password_that_is_a_name_in_its_address_is_no_secret(address: str) -> None:
    assert passwords_in(address) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("git clone https://me:secret@host/x", f"git clone https://{HIDDEN}@host/x"),
        ("redis://:pa:ss@h/0", f"redis://:{HIDDEN}@h/0"),
        ("ssh://git@host/x and me@host", "ssh://git@host/x and me@host"),
        ("Authorization: Basic bWU6c2VjcmV0", f"Authorization: Basic {HIDDEN}"),
        (
            f"token step.{'0' * 8}-{'0' * 27}.1.2.{'a' * 8}-{'b' * 27}.x",
            f"token step.{'0' * 8}-{'0' * 27}.1.2.{HIDDEN}.x",
        ),
    ],
)
def test_more_that_looks_like_a_secret(text: str, shown: str) -> None:
    assert Redactor([]).text(text) == shown


@pytest.mark.parametrize("length", [12, 15, len(KEY)])
def test_half_a_secret_is_hidden_too(length: int) -> None:
    assert Redactor(SECRETS).text(f"it was cut: {KEY[:length]} …") == f"it was cut: {HIDDEN} …"


@pytest.mark.parametrize(
    "piece", ["eyJ-", "-----BEGIN PRIVATE KEY-----", "sk-", "://a:", "Bearer ", "cana", "eyJaaaaaaaaaaa."]
)
def test_no_text_is_slow(piece: str) -> None:
    redactor = Redactor(SECRETS)
    text = piece * (1024 * 1024 // len(piece)) + "-----END x"
    began = time.process_time()
    redactor.text(text)
    redactor.settled(text)
    assert time.process_time() - began < 5  # quadratic, it would take hours


async def test_what_is_large_is_looked_through_beside_the_loop() -> None:
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    value = [f"a risk, a task, and {'words ' * 20}" for _ in range(30_000)] + [f"the key is {KEY}"]
    running = asyncio.create_task(others())
    for how in ("shown", "exact"):
        before = rounds
        kept = await SECRECY.kept(value, how)
        assert rounds > before + 10 and kept[:-1] == value[:-1] and not is_in(KEY, str(kept[-1]))
    running.cancel()


def test_every_event_of_gateways_and_workers_passes_the_door() -> None:
    """`Backends.item` knows the secrets of the process; `encoding.item` alone knows none."""
    callers = {
        str(file.relative_to(HOUSE))
        for folder in ("app", "workers")
        for file in (HOUSE / folder).rglob("*.py")
        if re.search(r"\bencoding\.item\(|import .*\bitem\b", file.read_text())
    }
    assert callers == {"app/unit_of_work.py", "app/events/proof/heads.py"}  # the latter writes ids and digests alone
