"""The gateway as the commands see it: where it is, and its endpoints over HTTP."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, Self
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import typer
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings
from app.embedded.running import running_stack
from app.errors import BadInput, GatewayRefused, NoStack, Unavailable

if TYPE_CHECKING:
    from httpx import Response
    from httpx_sse import EventSource

    from app.config import Settings

Url = Annotated[
    str | None, typer.Option(help="The gateway's address; else STELLWERK_URL, else the stack that runs on HOME.")
]
Token = Annotated[
    str | None, typer.Option(help="Its token, or a key; else STELLWERK_TOKEN, else that of the stack on HOME.")
]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
AWAY = frozenset({429, 502, 503, 504})
"""Answers that mean "later"."""
READ_SECONDS = 60.0  # a stream's heartbeat comes every 15 s; a half-open connection is silent for ever
RETRY_SECONDS = 5.0  # a gateway that is being restarted is back sooner

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a gateway, with the token that opens it."""

    url: str
    token: str

    @property
    def page(self) -> str:
        return f"{self.url}/#token={self.token}"

    @property
    def is_local(self) -> bool:
        """Says whether the gateway runs on this machine, so that its files are here."""
        return urlsplit(self.url).hostname in LOOPBACK


def chosen_address(settings: "Settings", url: str | None, token: str | None) -> Address | None:
    """What options and settings name; None leaves it to the stack that runs here. Raises BadInput."""
    url = url or settings.url
    if url is None:
        return None
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise BadInput(f"{url!r} is no address; it looks like http://127.0.0.1:8000")
    token = chosen_token(settings, token)
    if token is None:
        raise BadInput(f"which token opens {url}? Give --token or set STELLWERK_TOKEN")
    return Address(url.rstrip("/"), token)


def chosen_token(settings: "Settings", token: str | None) -> str | None:
    """What the option or the setting names, also for the stack that runs here: a key must not act as its owner."""
    return token or (settings.token.get_secret_value() if settings.token else None)


def stack_address(home: Path, token: str | None = None) -> Address | None:
    info = running_stack(home)
    return Address(info.url, token or info.token) if info else None


def find_address(settings: "Settings", url: str | None = None, token: str | None = None) -> Address:
    """Raises NoStack."""
    address = chosen_address(settings, url, token) or stack_address(settings.home, chosen_token(settings, token))
    if address is None:
        raise NoStack(
            f"no stack is running in {settings.home}: start one with `stellwerk up`,"
            " or set STELLWERK_URL and STELLWERK_TOKEN"
        )
    return address


class GatewayClient:
    """A connection to a gateway. Refusals are GatewayRefused, a gateway that is away is Unavailable."""

    def __init__(self, address: Address) -> None:
        import httpx  # noqa: PLC0415 - every `--help` would wait for it

        self.address = address
        self._http = httpx.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.token}"},
            timeout=httpx.Timeout(10, read=READ_SECONDS),
            trust_env=not address.is_local,  # a company's proxy cannot reach our loopback
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Tries again for some seconds while the gateway is away."""
        return orjson.loads(self._patiently("GET", path, params=_given(query)).content)

    def get_bytes(self, path: str) -> bytes | None:
        """None when there is no content."""
        response = self._patiently("GET", path)
        return None if response.status_code == 204 else response.content

    def post(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None, once: bool = False
    ) -> Any:
        """Sends a request once; with `once` perhaps twice, under a key by which it is done no second time."""
        key = idempotency_key or (str(uuid4()) if once else None)
        headers = {"Idempotency-Key": key} if key else {}
        send = self._patiently if once else self._send
        return orjson.loads(send("POST", path, json=dict(body), headers=headers).content)

    @contextmanager
    def events(self, session_id: str, *, after: str) -> Iterator["EventSource | None"]:
        """One connection to a session's stream; None when it is closed and holds nothing after `after`."""
        from httpx_sse import connect_sse  # noqa: PLC0415 - it imports httpx

        path, headers = f"/sessions/{session_id}/events", {"Last-Event-ID": after}
        with self._reached(), connect_sse(self._http, "GET", path, headers=headers) as source:
            if source.response.status_code != 200:
                source.response.read()
                _check(source.response)
            yield source if source.response.status_code == 200 else None

    def _patiently(self, method: str, path: str, **options: Any) -> "Response":
        retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(RETRY_SECONDS),
            wait=wait_exponential_jitter(initial=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        return retrying(self._send, method, path, **options)

    def _send(self, method: str, path: str, **options: Any) -> "Response":
        try:
            with self._reached():
                response = self._http.request(method, path, **options)
        except UnicodeEncodeError as error:  # bytes of another encoding among the arguments
            raise BadInput(f"this cannot be sent as text: {error.object!a}"[:300]) from error
        _check(response)
        return response

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Says Unavailable for what goes wrong on the way."""
        from httpx import TransportError  # noqa: PLC0415

        try:
            yield
        except TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"{self.address.url} does not answer ({reason})") from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check(response: "Response") -> None:
    if response.is_success:
        return
    try:
        problem = response.json()
        detail, kind = str(problem["detail"]), str(problem["type"]).rpartition(":")[2]
    except (ValueError, LookupError, TypeError):  # something else answers, such as a proxy
        problem = {}
        detail, kind = f"{response.url.host} answered {response.status_code} {response.reason_phrase}", ""
    if response.status_code in AWAY:
        raise Unavailable(detail)
    raise GatewayRefused(detail, status=response.status_code, kind=kind, problem=problem)


def with_gateway(command: Callable[Concatenate[GatewayClient, P], None]) -> Callable[..., None]:
    """Gives a command --url, --token and --home, and in their place a GatewayClient as its first argument."""

    @wraps(command)
    def connected(*args: Any, url: str | None, token: str | None, home: Path | None, **options: Any) -> None:
        with GatewayClient(find_address(read_settings(home), url, token)) as gateway:
            command(gateway, *args, **options)

    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in (("url", Url), ("token", Token), ("home", Home))
    ]
    parameters = [*list(own.parameters.values())[1:], *added]
    connected.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # where typer looks
    return connected
