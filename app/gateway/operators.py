"""What principals do, as a stream of each project: live, in pages, and as a file that proves itself."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.events.proof import export
from app.events.read import stream_state
from app.events.types import DEFAULT_PROJECT, StreamId
from app.gateway.callers import ToSeeControl
from app.gateway.inputs import ProjectInQuery
from app.gateway.streaming.pages import RESPONSES, stream_or_page
from app.gateway.streaming.parameters import AskedManner, AskedPage
from app.gateway.wiring import Gateway, Wired
from app.principals import control
from app.principals.model import Principal, check_readable

router = APIRouter(prefix="/operators", tags=["operators"])


@router.get("/events", response_class=Response, responses=RESPONSES)
@router.head("/events", include_in_schema=False)
async def read_control(
    request: Request,
    gateway: Wired,
    principal: ToSeeControl,
    asked: AskedPage,
    manner: AskedManner,
    project: ProjectInQuery = None,
) -> Response:
    """Who did what to which session or key, and what was denied; it is read as a session's stream is."""
    stream_id = await _stream_id(gateway, principal, project)
    return await stream_or_page(request, gateway, principal, stream_id, asked, manner)


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"description": "JSON lines for `stellwerk verify`", "content": {export.MEDIA_TYPE: {}}}},
)
async def export_control(gateway: Wired, principal: ToSeeControl, project: ProjectInQuery = None) -> Response:
    """All of it with digests, salts and chain."""
    stream_id = await _stream_id(gateway, principal, project)
    async with gateway.engine.connect() as db:
        state = check_readable(principal, await stream_state(db, stream_id))
    name = f'attachment; filename="operators-{state.project}.jsonl"'
    lines = gateway.access.while_it_holds(principal, export.export(gateway.engine, state))
    return StreamingResponse(lines, media_type=export.MEDIA_TYPE, headers={"Content-Disposition": name})


async def _stream_id(gateway: Gateway, principal: Principal, project: str | None) -> StreamId:
    return await control.find_operators_stream(
        gateway.backends, project or principal.project or DEFAULT_PROJECT, principal=principal
    )
