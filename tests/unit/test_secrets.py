"""Keys and tickets as text: recognised without a look into the database, never mistaken, never forged."""

import re
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import BadInput
from app.gateway.tickets import Ticket
from app.key_shapes import HIDDEN
from app.principals.model import check_name, check_project
from app.principals.secrets import PATTERN, digest_of, is_key, new_key
from app.redaction import Redactor

SECRET = b"the-owner's-token"
tickets = st.builds(
    Ticket,
    st.uuids(),
    st.none() | st.uuids().filter(lambda key: key.int != 0).map(str),
    st.integers(min_value=0, max_value=2**64 - 1),
)


def test_a_key_is_recognised_by_its_form_and_its_checksum() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000 and len({digest_of(key) for key in keys}) == 1000
    for key in keys:
        assert re.fullmatch(PATTERN, key) and is_key(key) and len(digest_of(key)) == 32


@given(st.integers(min_value=0, max_value=41), st.characters())
def test_a_misspelt_key_is_none(place: int, letter: str) -> None:
    key = new_key()
    assume(key[place] != letter)
    assert not is_key(key[:place] + letter + key[place + 1 :])
    assert not is_key(key[:place] + key[place + 1 :])
    assert not is_key(key[:place] + letter + key[place:])


@given(st.text())
def test_no_other_text_is_a_key_or_a_ticket(text: str) -> None:
    for said in (text, f"stw_{text}", f"stwt_{text}"):
        assert not is_key(said)
        assert Ticket.read(said, SECRET) is None


@given(tickets)
def test_a_ticket_is_read_as_it_was_signed(ticket: Ticket) -> None:
    text = ticket.signed(SECRET)
    assert Ticket.read(text, SECRET) == ticket
    assert Ticket.read(text, b"another") is None
    assert re.fullmatch(r"stwt_[\w-]{96}", text, re.ASCII)


@given(tickets, st.integers(min_value=5, max_value=100), st.sampled_from("Ab0_-"))
def test_a_ticket_that_was_changed_is_none(ticket: Ticket, place: int, letter: str) -> None:
    text = ticket.signed(SECRET)
    assume(text[place] != letter)
    assert Ticket.read(text[:place] + letter + text[place + 1 :], SECRET) is None
    assert Ticket.read(text[:place], SECRET) is None


@given(st.text(alphabet=" \n\"'=:/&?,;()", max_size=3), st.booleans())
def test_keys_and_tickets_are_taken_out_of_what_is_recorded(around: str, is_key_first: bool) -> None:
    ticket = Ticket(uuid4(), None, 1).signed(SECRET)
    secret = new_key() if is_key_first else ticket
    redactor = Redactor([])
    assert redactor.text(f"{around}{secret}{around}") == f"{around}{HIDDEN}{around}"
    assert redactor.value({"url": [f"/events?ticket={secret}&x=1"]}) == {"url": [f"/events?ticket={HIDDEN}&x=1"]}


@pytest.mark.parametrize("name", ["ci", "Alice", "a", "0", "x" * 100, "a.b_c@d+e-f", "Owner"])
def test_names_of_keys(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "owner", "x" * 101, "-a", ".a", "a b", "a\n", "ä", "a/b", "a:b", "a\x00", "a\ud800"]
)
def test_what_is_no_name_of_a_key(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a key's name"):
        check_name(name)


@pytest.mark.parametrize("project", ["default", "a", "0", "x" * 63, "a-b_c"])
def test_names_of_projects(project: str) -> None:
    assert check_project(project) == project


@pytest.mark.parametrize("project", ["", "stellwerk", "A", "x" * 64, "-a", "_a", "a.b", "a b", "a\n", "ä", "a\x00"])
def test_what_is_no_name_of_a_project(project: str) -> None:
    with pytest.raises(BadInput, match="cannot be a project's name"):
        check_project(project)


def test_a_ticket_of_the_stacks_own_token_names_no_key() -> None:
    assert Ticket.read(Ticket(UUID(int=5), None, 7).signed(SECRET), SECRET) == Ticket(UUID(int=5), None, 7)
