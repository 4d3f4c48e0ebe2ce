"""What a request says beside its body: only parameters that its endpoint takes, and once what is meant once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Header, Query
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from app.errors import BadQuery, BadRequest
from app.gateway.responses import MEDIA_TYPE

_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Taken:
    """The names of what an endpoint takes: parameters of its query, those of them that may be repeated, headers."""

    query: frozenset[str]
    lists: frozenset[str]
    headers: frozenset[str]


_known = dict[object, Taken]()
"""By endpoint: what it takes never changes."""


def check_request(request: HTTPConnection) -> None:
    """Raises BadQuery and BadRequest. What is not known must not be ignored: a misspelt filter would show all."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    taken = _known.get(route.endpoint) or _known.setdefault(route.endpoint, _taken(route))
    if request.scope["query_string"]:
        _check_query(request, taken, f"{request.scope['method']} {route.path}")
    twice = [name for name, count in _counts(request.headers.keys()) if count > 1 and name in taken.headers]
    if twice:
        raise BadRequest(f"the header {twice[0]} was sent more than once; send one")
    if request.scope["method"] in _SAFE and _has_body(request):
        raise BadRequest("a GET has no body: what it asks for stands in the address")


def wants_stream(request: HTTPConnection) -> bool:
    """Says whether it asks for server-sent events; else for a page."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def refuse_parameters(request: HTTPConnection, *names: str, because: str) -> None:
    """Refuses what the endpoint takes, and has no meaning in this request. Raises BadQuery."""
    if given := [name for name in names if name in request.query_params]:
        raise BadQuery(f"{given[0]!r} {because}")


def _check_query(request: HTTPConnection, taken: Taken, endpoint: str) -> None:
    for name, count in _counts(name for name, _ in request.query_params.multi_items()):
        if name not in taken.query:
            there = f"what there is: {', '.join(sorted(taken.query))}" if taken.query else "it takes none"
            raise BadQuery(f"{name[:60]!r} is no parameter of {endpoint}; {there}", allowed=taken.query)
        if count > 1 and name not in taken.lists:
            lists = f"; of {', '.join(sorted(taken.lists))} there may be several" if taken.lists else ""
            raise BadQuery(f"{name!r} was given {count} times; give it once{lists}", allowed=taken.query)


def _counts(names: Iterable[str]) -> Iterable[tuple[str, int]]:
    return Counter(names).items()


def _has_body(request: HTTPConnection) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _taken(route: APIRoute) -> Taken:
    fields = [field.field_info for field in get_flat_params(route.dependant)]
    query = {str(field.alias): field for field in fields if isinstance(field, Query)}
    headers = {str(field.alias).lower() for field in fields if isinstance(field, Header)}
    return Taken(
        frozenset(query),
        frozenset(name for name, field in query.items() if _is_list(field.annotation)),
        frozenset(headers | {"authorization"}),
    )


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(get_origin(part) is list for part in get_args(annotation))
