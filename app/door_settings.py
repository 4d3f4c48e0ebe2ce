"""The settings of the gateway's door: which clients it believes, and what one of them may take up."""

from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network
KIB = 1024


def seconds(value: object) -> object:
    """A bare number is seconds; pydantic alone would take it only as a number, not as a variable's text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(seconds)]


def _networks(items: tuple[str, ...]) -> tuple[str, ...]:
    """Checks what are addresses or networks; an address is a network of one."""
    try:
        read_networks(items)
    except ValueError as error:
        raise ValueError(f"{error}; give addresses or networks, such as 10.0.0.7,192.168.0.0/16") from None
    return items


def read_networks(items: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError."""
    return tuple(ip_network(item, strict=False) for item in items)


def split(value: object) -> object:
    """Reads a list with commas."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), AfterValidator(_networks)]


class DoorSettings(BaseSettings):
    """A part of config.Settings."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    trusted_proxies: Networks = ()
    """Proxies at these addresses or networks are believed what `X-Forwarded-For` and `X-Forwarded-Proto` say; from all
    others they mean nothing. A proxy hands on the `Host` as it came."""
    unlimited_addresses: Networks = ("127.0.0.0/8", "::1")
    """Clients at these addresses or networks have no limit of their own address: many of them share it."""
    address_connections: int = Field(default=1000, ge=1)
    """One address (of IPv6, one /64) has this many connections open at most, or through a trusted proxy this many
    requests; one beyond that is refused."""
    address_failures: int = Field(default=20, ge=1)
    """One address may show this many wrong tokens a second, or none where one is needed; beyond that its requests get
    429, unless they show one that holds."""
    max_connections: int = Field(default=20_000, ge=1)
    """One gateway process has this many connections open at most, and always fewer than it may have files; at the limit
    one that has not asked for anything is closed for a new one, else the new one is refused."""
    max_head_bytes: int = Field(default=32 * KIB, ge=1024)
    """A request's head that is larger is refused."""
    head_timeout: Duration = timedelta(seconds=10)
    """A request's head must have come in full within this time, the first one from when the client connected."""
    body_timeout: Duration = timedelta(seconds=20)
    """A request's body must have come in full within this time, and one second more for each `body_rate` bytes that
    have come."""
    body_rate: int = Field(default=4 * KIB, ge=1)
    """This many bytes a second of a body are fast enough."""
