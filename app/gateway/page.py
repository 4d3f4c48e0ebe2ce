"""The page: three static files, and the cookie that lets the browser's EventSource in."""

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from app.errors import AccessDenied, UnknownKey
from app.gateway.access import cookie_name
from app.gateway.callers import ByPrincipal
from app.gateway.wiring import Gateway, Wired
from app.principals.model import Principal

router = APIRouter(include_in_schema=False)

DASHBOARD = Path(__file__).parent / "dashboard"
COOKIE_SECONDS = 365 * 24 * 3600


def _headers(form_action: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        f" base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


_PAGE = _headers("'none'")
# Under the middleware's own policy browsers would send the form with `Origin: null`, which is refused as foreign.
_LOCKED = _headers("'self'") | {"Referrer-Policy": "same-origin"}
_NOT_THIS_KEY = '<p role="alert">This key is wrong, or no longer in force.</p>\n    '
_OWN_SITES = frozenset({"none", "same-origin"})


@router.get("/")
async def index(request: Request, gateway: Wired, token: str | None = None) -> Response:
    """Gives the page; with `?token=` it keeps the token's cookie and takes the token out of the address."""
    if token is not None:
        principal = await _by_token(gateway, token)
        # A stranger's link with the stranger's own key would sign a visitor in as the stranger, who could then read
        # what the visitor submits. The stack's token no stranger has.
        if principal.key_id is not None and request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return _locked()
        return _signed_in(request, gateway, principal)
    try:
        await gateway.access.by_cookie_after_reading(request.cookies.get(cookie_name(request), ""))
    except AccessDenied:
        return _locked()
    return FileResponse(DASHBOARD / "index.html", headers=_PAGE)


def _locked() -> Response:
    return FileResponse(DASHBOARD / "locked.html", 401, headers=_LOCKED)


@router.post("/login")
async def login(request: Request, gateway: Wired) -> Response:
    """Takes the form of the locked page: a key, or the stack's own token. People get the form again."""
    fields = parse_qs((await request.body()).decode(errors="replace"))
    try:
        return _signed_in(request, gateway, await _by_token(gateway, fields.get("key", [""])[0].strip()))
    except AccessDenied:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        gateway.denials.count(request, 401)
        again = (DASHBOARD / "locked.html").read_text().replace("<form", f"{_NOT_THIS_KEY}<form")
        return HTMLResponse(again, 401, headers=_LOCKED)


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Takes this browser's cookie away."""
    response = RedirectResponse("/", 303)
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return response


@router.get("/dashboard/{name}")
async def asset(principal: ByPrincipal, name: Literal["app.js", "style.css"]) -> Response:
    return FileResponse(DASHBOARD / name, headers=_PAGE)


async def _by_token(gateway: Gateway, token: str) -> Principal:
    try:
        return await gateway.access.by_token_after_reading(token)
    except UnknownKey:
        raise
    except AccessDenied:
        detail = "this token or key is wrong; open the address that `stellwerk up` printed, or sign in with a key"
        raise AccessDenied(detail) from None


def _signed_in(request: Request, gateway: Gateway, principal: Principal) -> Response:
    response = RedirectResponse("/", 303)
    response.set_cookie(
        cookie_name(request),
        gateway.access.cookie_for(principal),
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response
