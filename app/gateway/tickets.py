"""Tickets: one stream, to read, for a while, in an address. Pure.

They are for EventSource, which can send no header. Nothing is kept of a ticket: it is signed with the stack's own
token, and ends with the key that asked for it.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

PREFIX = "stwt_"
_FIELDS = struct.Struct("!16s16sQ")
_MAC_BYTES = 32
_NO_KEY = bytes(16)


@dataclass(frozen=True, slots=True)
class Ticket:
    """`expires` is in seconds since 1970; a `key_id` of None stands for the stack's own token."""

    stream_id: UUID
    key_id: str | None
    expires: int

    def signed(self, secret: bytes) -> str:
        key = _NO_KEY if self.key_id is None else UUID(self.key_id).bytes
        said = _FIELDS.pack(self.stream_id.bytes, key, self.expires)
        return PREFIX + base64.urlsafe_b64encode(said + _mac(said, secret)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str, secret: bytes) -> "Ticket | None":
        """None where it was not signed with this secret."""
        try:
            whole = base64.urlsafe_b64decode(f"{text.removeprefix(PREFIX)}==")
        except (binascii.Error, ValueError):
            return None
        said, mac = whole[: _FIELDS.size], whole[_FIELDS.size :]
        if not text.startswith(PREFIX) or not hmac.compare_digest(mac, _mac(said, secret)):
            return None
        stream, key, expires = _FIELDS.unpack(said)
        return cls(UUID(bytes=stream), None if key == _NO_KEY else str(UUID(bytes=key)), expires)


def _mac(said: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, b"ticket" + said, hashlib.sha256)
