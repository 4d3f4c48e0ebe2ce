"""What opens a repository: taken out of its address at the door, and kept, encrypted, until the repository is cloned.

In the session's row, since any worker may clone it, after any restart; by a key that gateways and workers share and
that stands in no dump of the database.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote

import orjson
from cryptography.fernet import Fernet, InvalidToken

from app.config import Settings
from app.errors import BadInput, UnknownSecret
from app.known_secrets import passwords_in

_ADDRESS = re.compile(
    r"(?P<scheme>https?|ssh)://(?:(?P<user>[^:@/?#]*)(?P<colon>:)?(?P<password>[^/?#]*)@)?(?P<rest>.*)"
)
_PLAIN = re.compile(
    r"(?:https?|ssh)://(?:[^:@/?#]*(?::[^/?#]*)?@)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s:@/?#\[\]]+)(?::\d*)?(?:/[^?#]*)?"
)
"""An address with a host, before which alone what opens the repository can stand."""
_SALT = b"stellwerk: credentials of repositories"


@dataclass(frozen=True, slots=True)
class Credentials:
    """For one host alone; either may be empty."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    def address_of(self, repo: str) -> str:
        """The address without credentials, with them: as git's own store writes it."""
        scheme, _, rest = repo.partition("://")
        host = rest.partition("/")[0]
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{host}"


def check_address(repo: str) -> None:
    """Raises BadInput for an address that a client gives, in which a secret would not be found; it is not said again.

    One without `://`, as scp writes it, and a file's are left alone. Workers read what earlier versions took.
    """
    scheme, is_address, _ = repo.partition("://")
    if is_address and scheme.lower() != "file" and not _PLAIN.fullmatch(repo):
        raise BadInput(
            "repo is https://host/path or ssh://user@host/path, with a host, and without a query or a fragment; what"
            " opens the repository stands before the host of https alone, percent-encoded, as user:password@"
        )


def without_credentials(repo: str) -> tuple[str, Credentials | None]:
    """The address as it may be recorded, and what was in it. Of ssh the user stays, whom it needs.

    Raises BadInput for a password that ssh would not take.
    """
    found = _ADDRESS.fullmatch(repo)
    if found is None or found["user"] is None:
        return repo, None
    if found["scheme"] == "ssh":
        if found["colon"]:
            raise BadInput("ssh takes no password from an address; give the workers a key for it")
        return repo, None
    credentials = Credentials(unquote(found["user"]), unquote(found["password"] or ""))
    return f"{found['scheme']}://{found['rest']}", credentials


def encrypted(credentials: Credentials, settings: Settings) -> bytes:
    """Raises BadInput where there is no key to encrypt it by."""
    key = _key(settings)
    if key is None:
        raise BadInput(
            "this deployment cannot keep what opens a repository: set STELLWERK_CREDENTIALS_KEY for gateways and"
            " workers, or a password in STELLWERK_DATABASE_URL"
        )
    return key.encrypt(orjson.dumps([credentials.user, credentials.password]))


def decrypted(content: bytes, settings: Settings) -> Credentials:
    """Raises UnknownSecret."""
    key = _key(settings)
    try:
        if key is None:
            raise InvalidToken
        return Credentials(*orjson.loads(key.decrypt(content)))
    except InvalidToken:
        raise UnknownSecret(
            "this worker cannot read what opens the session's repository: STELLWERK_CREDENTIALS_KEY, or the password"
            " in STELLWERK_DATABASE_URL, is not the gateway's"
        ) from None


def _key(settings: Settings) -> Fernet | None:
    if settings.credentials_key is not None:
        return _derived(settings.credentials_key.get_secret_value())
    passwords = passwords_in(settings.database_url or "")
    return _derived(passwords[0]) if passwords else None


@lru_cache(maxsize=8)
def _derived(secret: str) -> Fernet:
    # Slow, since a password of a database may be a person's; once in a process.
    key = hashlib.scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)
    return Fernet(base64.urlsafe_b64encode(key))
