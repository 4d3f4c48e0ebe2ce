"""Whose address a request comes from, and by which scheme, as far as proxies are believed. Pure."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from starlette.types import Scope

from app.door_settings import DoorSettings, Network, read_networks

Address = IPv4Address | IPv6Address
MAX_HOPS = 32
"""So many addresses of `X-Forwarded-For` are looked at, from the right."""
_IPV6_PREFIX = 64
"""One client has at least so many addresses of its own."""
_KEPT = 4096


class Addresses:
    """Knows the proxies that are believed, and the addresses that many clients share."""

    def __init__(self, settings: DoorSettings) -> None:
        self._trusted = read_networks(settings.trusted_proxies)
        self._unlimited = read_networks(settings.unlimited_addresses)
        self.is_trusted = lru_cache(_KEPT)(self._is_trusted)
        self.limited = lru_cache(_KEPT)(self._limited)

    def _is_trusted(self, host: str) -> bool:
        address = read_address(host) if self._trusted else None
        return address is not None and _is_in(address, self._trusted)

    def _limited(self, host: str) -> str | None:
        """Under which name this host's connections and failures are counted; None: it has no limit of its own."""
        address = read_address(host)
        if address is None or _is_in(address, self._unlimited):
            return None
        if isinstance(address, IPv6Address):
            return str(IPv6Address(int(address) >> (128 - _IPV6_PREFIX) << (128 - _IPV6_PREFIX)))
        return str(address)

    def see_through(self, scope: Scope) -> bool:
        """Puts what a trusted proxy says of its client into the scope; says whether the request came through one."""
        client = scope.get("client")
        if client is None or not self.is_trusted(client[0]):
            return False
        found = _values(scope, b"x-forwarded-for")
        if (behind := self._behind(found)) is not None:
            scope["client"] = (str(behind), 0)
        schemes = _values(scope, b"x-forwarded-proto")
        if schemes and (scheme := schemes[-1].lower()) in {"http", "https"}:
            scope["scheme"] = scheme
        return True

    def _behind(self, forwarded: Sequence[str]) -> Address | None:
        """The first address from the right that is no trusted proxy: what stands left of it anyone may have written.

        None: the proxy names none, or something else than an address.
        """
        last = None
        for text in islice(reversed(forwarded), MAX_HOPS):
            address = read_address(text)
            if address is None:
                break
            last = address
            if not _is_in(address, self._trusted):
                break
        return last


def read_address(text: str) -> Address | None:
    """Reads an address as proxies write it, perhaps with a port; one of IPv4 within IPv6 is one of IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    within = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return within or address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _values(scope: Scope, name: bytes) -> list[str]:
    """A header's values, in order, however many lines they stand in."""
    lines = [value.decode("latin-1") for header, value in scope["headers"] if header == name]
    return [value.strip() for line in lines for value in line.split(",")]
