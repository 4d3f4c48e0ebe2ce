"""The page: three static files, and the cookie that lets the browser's EventSource in."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.errors import AccessDenied
from app.gateway.access import ByPrincipal, cookie_name, cookie_value, has_cookie, is_token
from app.gateway.wiring import Wired

router = APIRouter(include_in_schema=False)

DASHBOARD = Path(__file__).parent / "dashboard"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


@router.get("/")
async def index(request: Request, gateway: Wired, token: str | None = None) -> Response:
    """Gives the page; with `?token=` it keeps the token's cookie and takes the token out of the address."""
    if token is not None:
        if not is_token(token, gateway.settings):
            raise AccessDenied("this token is wrong; open the address that `stellwerk up` printed")
        response = RedirectResponse("/", 303)
        response.set_cookie(
            cookie_name(request),
            cookie_value(gateway.settings),
            max_age=365 * 24 * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response
    if has_cookie(request, gateway.settings):
        return FileResponse(DASHBOARD / "index.html", headers=_HEADERS)
    return FileResponse(DASHBOARD / "locked.html", 401, headers=_HEADERS)


@router.get("/dashboard/{name}")
async def asset(principal: ByPrincipal, name: Literal["app.js", "style.css"]) -> Response:
    return FileResponse(DASHBOARD / name, headers=_HEADERS)
