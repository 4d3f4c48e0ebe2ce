"""The page: static files, and the cookie that lets the browser's EventSource in."""

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from app.errors import AccessDenied, UnknownKey
from app.gateway.callers import ByPrincipal
from app.gateway.cookies import cookie_name, set_cookie
from app.gateway.wiring import Gateway, Wired
from app.principals.model import Principal

router = APIRouter(include_in_schema=False)

DASHBOARD = Path(__file__).parent / "dashboard"


def _headers(form_action: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        f" base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


_PAGE = _headers("'none'")
# Under the middleware's own policy browsers would send the form with `Origin: null`, which is refused as foreign.
_LOCKED = _headers("'self'") | {"Referrer-Policy": "same-origin"}
_OWN_SITES = frozenset({"none", "same-origin"})


@router.get("/")
async def index(request: Request, gateway: Wired, token: str | None = None) -> Response:
    """Gives the page; with `?token=` it keeps the token's cookie and takes the token out of the address.

    Better is `/#token=`, which a browser sends to no server: the page's own script reads it.
    """
    if token is not None:
        principal = await _by_token(gateway, token)
        # A stranger's link with the stranger's own key would sign a visitor in as the stranger, who could then read
        # what the visitor submits. The stack's token no stranger has.
        if principal.key_id is not None and request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return _locked()
        return _signed_in(request, gateway, principal)
    try:
        await gateway.access.by_cookie_after_reading(request)
    except AccessDenied:
        return _locked()
    return FileResponse(DASHBOARD / "index.html", headers=_PAGE)


def _locked() -> Response:
    return FileResponse(DASHBOARD / "locked.html", 401, headers=_LOCKED)


@router.post("/login")
async def login(request: Request, gateway: Wired) -> Response:
    """Takes a key, or the stack's own token: as a bearer from the page's script, which keeps it for what changes
    something; or from the form, where no script runs. People get the form again."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        response = Response(status_code=204)
        set_cookie(response, request, gateway.access.cookie_for(await _by_token(gateway, shown.strip())))
        return response
    fields = parse_qs((await request.body()).decode(errors="replace"))
    try:
        return _signed_in(request, gateway, await _by_token(gateway, fields.get("key", [""])[0].strip()))
    except AccessDenied:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        gateway.denials.count(request, 401)
        again = (DASHBOARD / "locked.html").read_text().replace('role="alert" hidden', 'role="alert"')
        return HTMLResponse(again, 401, headers=_LOCKED)


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Takes this browser's cookie away."""
    response = RedirectResponse("/", 303)
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return response


@router.get("/dashboard/login.js")
@router.get("/dashboard/style.css")
async def open_asset(request: Request) -> Response:
    """What signing in needs."""
    return FileResponse(DASHBOARD / Path(request.url.path).name, headers=_PAGE)


@router.get("/dashboard/{name}")
async def asset(principal: ByPrincipal, name: Literal["app.js", "lines.js"]) -> Response:
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
    set_cookie(response, request, gateway.access.cookie_for(principal))
    return response
