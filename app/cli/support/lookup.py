"""Sessions by what people type: an id, or enough of its beginning or end."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli.client import GatewayClient, find_address
from app.errors import BadInput, NotFound
from app.progress import SessionId

if TYPE_CHECKING:
    from app.config import Settings

Session = Annotated[str, typer.Argument(help="The session's id; of one of the newest, its beginning or end will do.")]
NEWEST = 1000


def find_session(gateway: GatewayClient, text: str) -> str:
    """The whole id. Raises NotFound, and BadInput for what fits several."""
    try:
        return str(UUID(text))
    except ValueError:
        pass
    ids = [view["session_id"] for view in gateway.get("/sessions", limit=NEWEST)["sessions"]]
    found = [session for session in ids if session.startswith(text.lower()) or session.endswith(text.lower())]
    if not found or not text:
        raise NotFound(f"there is no session {text!r} among the newest; `stellwerk sessions` lists them")
    if len(found) > 1:
        raise BadInput(f"{text!r} fits {len(found)} sessions; give more of the id")
    return str(found[0])


def session_id_of(text: str, settings: "Settings") -> SessionId:
    """A whole id needs no gateway."""
    try:
        return SessionId(UUID(text))
    except ValueError:
        with GatewayClient(find_address(settings)) as gateway:
            return SessionId(UUID(find_session(gateway, text)))
