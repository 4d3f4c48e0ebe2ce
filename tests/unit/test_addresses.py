"""Whose address counts: what a trusted proxy says, from the right, and nothing that anyone else may have written."""

from typing import Any

import pytest

from app.door_settings import DoorSettings
from app.gateway.door.addresses import MAX_HOPS, Addresses, read_address

PROXY = "10.0.0.1"


def addresses(**settings: object) -> Addresses:
    return Addresses(DoorSettings.model_validate({"trusted_proxies": f"{PROXY}, 192.168.0.0/16, fd00::/8"} | settings))


def seen(peer: str, *lines: str, proto: tuple[str, ...] = ()) -> tuple[str, str]:
    """The client and the scheme that a request has in the end."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    headers += [(b"x-forwarded-proto", line.encode("latin-1")) for line in proto]
    scope: dict[str, Any] = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": headers}
    addresses().see_through(scope)
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        (PROXY, ["203.0.113.7"], "203.0.113.7"),
        (PROXY, ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (PROXY, ["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (PROXY, ["203.0.113.7, 192.168.4.4, 10.0.0.1"], "203.0.113.7"),
        (PROXY, ["192.168.4.4"], "192.168.4.4"),
        (PROXY, ["203.0.113.7:4711"], "203.0.113.7"),
        (PROXY, ["[2001:db8::7]:4711"], "2001:db8::7"),
        (PROXY, ["2001:db8::7"], "2001:db8::7"),
        (PROXY, ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("fd00::1", ["203.0.113.7"], "203.0.113.7"),
        (PROXY, ["203.0.113.7, unknown"], PROXY),
        (PROXY, ["203.0.113.7, <b>, 192.168.4.4"], "192.168.4.4"),
        (PROXY, [""], PROXY),
        (PROXY, ["\xff\x00"], PROXY),
        (PROXY, [], PROXY),
        (PROXY, ["1.1.1.1," + "192.168.0.1," * MAX_HOPS + "192.168.0.2"], "192.168.0.1"),
        ("10.0.0.2", ["203.0.113.7"], "10.0.0.2"),
        ("127.0.0.1", ["203.0.113.7"], "127.0.0.1"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(peer: str, lines: list[str], client: str) -> None:
    assert seen(peer, *lines)[0] == client


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"),
    [
        (PROXY, ["https"], "https"),
        (PROXY, ["HTTPS"], "https"),
        (PROXY, ["https, http"], "http"),
        (PROXY, ["http", "https"], "https"),
        (PROXY, ["javascript"], "http"),
        (PROXY, [""], "http"),
        (PROXY, [], "http"),
        ("10.0.0.2", ["https"], "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(peer: str, proto: list[str], scheme: str) -> None:
    assert seen(peer, proto=tuple(proto))[1] == scheme


def test_nobody_is_believed_where_no_proxy_is_named() -> None:
    scope = {"client": ("127.0.0.1", 1), "scheme": "http", "headers": [(b"x-forwarded-for", b"203.0.113.7")]}
    assert not addresses(trusted_proxies="").see_through(scope) and scope["client"] == ("127.0.0.1", 1)
    assert not addresses().see_through({"client": None, "headers": []})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", None),
        ("127.8.8.8", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("a-socket", None),
    ],
)
def test_what_is_counted_together(host: str, name: str | None) -> None:
    assert addresses().limited(host) == name


def test_an_address_that_is_none() -> None:
    for text in ("", "x", "1.2.3", "1.2.3.4.5", "[]", "[x]:1", "::1%", "1.2.3.4:x:y", "999.1.1.1"):
        assert read_address(text) is None, text


def test_networks_that_are_none_are_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"give addresses or networks, such as"):
        DoorSettings(trusted_proxies=("nginx",))
