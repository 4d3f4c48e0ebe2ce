"""What a stream says as server-sent events: control frames around what `follow` gives.

No block is without `data`, and what has an `offset` in it is an event: so clients pass over frames of later versions.
"""

import random
from collections.abc import Iterator, Mapping
from typing import assert_never

import orjson
from sse_starlette import ServerSentEvent

from app.events.cursors import AnyCursor, Cursor, FeedCursor, FeedPlace
from app.events.follow.updates import Away, Beat, End, FeedReset, Frames, Renewed, Reset, Update
from app.events.read import StreamState
from app.gateway.streaming.start import Opening

RETRY_MS = (500, 2_500)
"""A restarted gateway must not get all its readers back in the same moment."""
OVERLOAD_RETRY_MS = (5_000, 15_000)
HEARTBEAT = b": heartbeat\n"
"""One line, and no blank one: there are clients that make an empty message of a block without data."""
PART_BYTES = 32 * 1024
"""How much goes out at once: what a client has not yet taken, a server keeps a copy of."""


def opening_frames(opening: Opening) -> bytes:
    first = stream_frame(opening.state, opening.cursor)
    return first if opening.reset is None else first + reset_frame(str(opening.reset), opening.state)


def frames_of(update: Update) -> bytes:
    match update:
        case Frames(cursor, b""):
            return f"id: {cursor}\nevent: cursor\ndata: {{}}\n\n".encode()
        case Frames():
            return update.frames
        case Beat():
            return HEARTBEAT
        case Reset():
            return reset_frame(update.reason, update.state)
        case Renewed():
            return stream_frame(update.state, update.cursor)
        case FeedReset():
            return feed_reset_frame(update)
        case End():
            return end_frame(update.state)
        case Away():
            return away_frame(update.reason, update.cursor)
        case _:
            assert_never(update)


def frames_with_beats(update: Update) -> bytes:
    """The same for clients that cannot see a comment: a heartbeat is a frame that tells the head."""
    if not isinstance(update, Beat):
        return frames_of(update)
    head = update.head if isinstance(update.head, int) else str(update.head)
    return _control_frame("heartbeat", None, {"head": head})


def stream_frame(state: StreamState, cursor: Cursor) -> bytes:
    """The first on every connection. `retry:` stands inside: some clients dispatch a block of its own."""
    data = {
        "earliest": state.earliest,
        "head": state.head,
        "head_chain": state.head_chain.hex(),
        "status": state.status,
        "epoch": state.epoch,
    }
    return _control_frame("stream", cursor, data, retry=random.randint(*RETRY_MS))  # noqa: S311  # jitter


def reset_frame(reason: str, state: StreamState) -> bytes:
    """Its id makes the client forget the cursor that could not be served."""
    data = {"reason": reason, "earliest": state.earliest, "head": state.head}
    return _control_frame("reset", Cursor(state.epoch, state.earliest - 1), data)


def end_frame(state: StreamState) -> bytes:
    data = {"head": state.head, "head_chain": state.head_chain.hex(), "status": state.status}
    return _control_frame("end", Cursor(state.epoch, state.head), data)


def away_frame(reason: str, cursor: AnyCursor | str | None, *, overloaded: bool = False) -> bytes:
    """Has no id, so a client keeps its own, which `cursor` is where it is known. Nothing comes after it."""
    data = {"reason": reason, "cursor": None if cursor is None else str(cursor)}
    retry = random.randint(*(OVERLOAD_RETRY_MS if overloaded else RETRY_MS))  # noqa: S311  # jitter
    return _control_frame("away", None, data, retry=retry)


def feed_stream_frame(head: FeedPlace, epoch: int, cursor: FeedCursor) -> bytes:
    """The first on every connection to the feed."""
    data = {"head": str(head), "epoch": epoch}
    return _control_frame("stream", cursor, data, retry=random.randint(*RETRY_MS))  # noqa: S311  # jitter


def feed_reset_frame(reset: FeedReset) -> bytes:
    """Its id is the place from which the feed goes on."""
    data = {"reason": reset.reason, "epoch": reset.epoch, "head": str(reset.head)}
    return _control_frame("reset", reset.cursor, data)


def _control_frame(
    event: str, cursor: AnyCursor | None, data: Mapping[str, object], *, retry: int | None = None
) -> bytes:
    own_id = None if cursor is None else str(cursor)
    return ServerSentEvent(orjson.dumps(data).decode(), event=event, id=own_id, retry=retry, sep="\n").encode()


def parts_of(frames: bytes) -> Iterator[bytes]:
    """Whole frames, some PART_BYTES together.

    asyncio keeps a copy of all that a client has not yet taken, so that should not be a whole page.
    """
    begin = 0
    while begin < len(frames):
        last = frames.find(b"\n\n", begin + PART_BYTES)
        end = len(frames) if last < 0 else last + 2
        yield frames[begin:end]
        begin = end


def last_id_in(frames: bytes) -> str | None:
    """The id of the last whole frame that has one."""
    begin = max(frames.rfind(b"\nid: ") + 1, 0)
    if not frames.startswith(b"id: ", begin):
        return None
    return frames[begin + 4 : frames.index(b"\n", begin)].decode()
