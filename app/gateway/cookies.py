"""The page's cookie: it reads, for as long as it is used, and changes nothing. Pure.

Browsers send it to every port of the host, so it is not the key, and is worth little: it lets its holder read until it
is half a day old, all were signed out or its key ended. What changes something wants the token or key itself.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.principals.model import SignOuts

LIFE_SECONDS = 12 * 3600
_PAIR = re.compile(rb"(?<![^; ])stellwerk_\d+=[\w.-]*(?=;|$)")
RENEW_AFTER_SECONDS = 3600
"""A cookie that is older is answered with a new one."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """`issued` is in seconds since 1970; a `key_id` of None stands for the stack's own token."""

    key_id: str | None
    issued: int
    sign_outs: SignOuts

    def signed(self, secret: bytes) -> str:
        said = f"{self.key_id or ''}.{self.issued}.{self.sign_outs.deployment}.{self.sign_outs.project}"
        return f"{said}.{_mac(said, secret)}"

    @classmethod
    def read(cls, text: str, secret: bytes, *, now: float) -> "Cookie | None":
        """None where it was not signed with this secret, or is too old."""
        said, _, mac = text.rpartition(".")
        if not hmac.compare_digest(mac.encode(errors="replace"), _mac(said, secret).encode()):
            return None
        key_id, issued, deployment, project = said.split(".")
        cookie = cls(key_id or None, int(issued), SignOuts(int(deployment), int(project)))
        return cookie if now < cookie.issued + LIFE_SECONDS else None

    def wants_renewal(self, now: float) -> bool:
        return now >= self.issued + RENEW_AFTER_SECONDS


def cookie_name(request: HTTPConnection) -> str:
    # Cookies do not know ports: two gateways on one machine would take each other's away.
    return f"stellwerk_{request.url.port or 0}"


def without_strange_cookies(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leaves of the cookies those that may be the page's: Python unquotes all, which for one head may take seconds."""
    kept = [header for header in headers if header[0] != b"cookie"]
    if len(kept) == len(headers):
        return headers
    own = [pair for name, value in headers if name == b"cookie" for pair in _PAIR.findall(value)]
    return [*kept, (b"cookie", b"; ".join(own))]


def set_cookie(response: Response, request: HTTPConnection, value: str) -> None:
    response.set_cookie(
        cookie_name(request),
        value,
        max_age=LIFE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def set_cookie_header(request: HTTPConnection, value: str) -> tuple[bytes, bytes]:
    """The header for answers that are made elsewhere."""
    response = Response()
    set_cookie(response, request, value)
    return next(header for header in response.raw_headers if header[0] == b"set-cookie")


def _mac(said: str, secret: bytes) -> str:
    return hmac.digest(secret, b"the page's cookie" + said.encode(errors="replace"), hashlib.sha256).hex()
