"""`stellwerk verify`: whether a session's log, a file of it, or a whole database is what was written."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from app.cli.console import err, examples, print_text, say
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings, with_database
from app.cli.support.database import engine_of
from app.cli.support.lookup import session_id_of
from app.cli.support.regular_file import bounded_lines, open_regular
from app.errors import BadExport, BadInput, BadPath, StellwerkError, describe
from app.progress import SessionId
from app.terminal import clean

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.config import Settings
    from app.events.proof.fault import Fault
    from app.sessions.verifying import Found

commands = typer.Typer()

CHANGED, NOT_CHECKED = 1, 3
"""Exit statuses beside 0, and 2 for bad usage."""
MAX_FAULTS = 50
"""Told of one stream; the rest is counted."""
MAX_UNRECORDED = 1_000_000
GIB, MIB = 1 << 30, 1 << 20


@commands.command(
    epilog=examples(
        "stellwerk verify session.jsonl",
        "stellwerk verify session.jsonl --head-chain 5f0c…",
        "stellwerk verify 019b5a3e",
        "stellwerk verify --all",
        "stellwerk verify --all --head-chain 77ab…",
    )
)
def verify(
    what: Annotated[str | None, typer.Argument(metavar="FILE|SESSION", help="An export, or a session's id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All streams of the database.")] = False,
    head_chain: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="A chain that you kept; with --all that of the stream of heads."),
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="A larger file is not read.")] = GIB,
    max_line_bytes: Annotated[int, typer.Option(min=1, help="Nor a longer line; an artifact is one.")] = 64 * MIB,
    home: Home = None,
) -> None:
    """Recomputes digests and chain of an export; in the database also compares all that clients are served.

    Exit status: 0 nothing was changed, 1 something was, 2 bad usage, 3 it could not be checked.
    """
    if (what is None) == (not everything):
        raise BadInput("give a file, a session or --all")
    kept = _kept(head_chain)
    with _told_apart():
        if what is not None and (_is_there(what) or "." in what or "/" in what):
            whole = _verify_file(Path(what), kept, max_bytes, max_line_bytes)
        else:
            whole = _verify_database(what, kept, read_settings(home))
    if not whole:
        raise typer.Exit(CHANGED)


def _is_there(what: str) -> bool:
    try:
        Path(what).lstat()
    except (OSError, ValueError):
        return False
    return True


def _kept(text: str | None) -> bytes | None:
    try:
        kept = None if text is None else bytes.fromhex(text)
    except ValueError:
        kept = b""
    if kept is not None and len(kept) != 32:
        raise BadInput(f"{text!r} is no chain; it has 64 hexadecimal digits")
    return kept


@contextmanager
def _told_apart() -> Iterator[None]:
    """What cannot be checked is neither whole nor changed."""
    try:
        yield
    except (BadExport, BadPath) as error:
        _not_checked(str(error))
    except BadInput:
        raise  # other arguments would help
    except (StellwerkError, OSError) as error:
        _not_checked(str(error))


def _not_checked(why: str) -> None:
    say(f"stellwerk: not checked: {why}")
    raise typer.Exit(NOT_CHECKED) from None


def _verify_file(path: Path, kept: bytes | None, max_bytes: int, max_line_bytes: int) -> bool:
    from app.events.proof.export import ExportVerifier  # noqa: PLC0415

    with open_regular(path, max_bytes=max_bytes) as file:
        lines = bounded_lines(file, path, max_bytes=max_bytes, max_line_bytes=max_line_bytes)
        verifier = ExportVerifier(next(lines, b""), kept=kept)
        faults = _tell(f"{verifier.state.stream_id} ", verifier.check(lines))
    stream, state = verifier.stream, verifier.state
    erased = f" ({len(stream.erased)} of them erased)" if stream.erased else ""
    begins = f" from offset {state.earliest} on" if state.earliest > 1 else ""
    verdict = f"{faults} fault(s)" if faults else "nothing was changed"
    print_text(
        f"{state.stream_id}: {stream.events} event(s){begins}{erased}, {len(verifier.artifacts)} artifact(s): {verdict}"
    )
    if not faults and kept is None:
        say(f"That holds if the chain at head is one that you have kept elsewhere: {state.head_chain.hex()}")
    elif not faults:
        say(f"The chain that you kept stands at offset {stream.kept_at}; the head is {state.head}.")
    return not faults


def _verify_database(what: str | None, kept: bytes | None, settings: "Settings") -> bool:
    """All of it where `what` is None."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    address = with_database(settings).database_url or ""
    session_id = None if what is None else session_id_of(what, settings)
    try:
        return asyncio.run(_verify_streams(address, session_id, kept))
    except SQLAlchemyError as error:
        _not_checked(f"the database does not answer as it should: {describe(error)}")
        return False


async def _verify_streams(address: str, session_id: SessionId | None, kept: bytes | None) -> bool:
    from app.events.proof.entries import count_events  # noqa: PLC0415
    from app.sessions.verifying import verify_all  # noqa: PLC0415

    streams = events = broken = 0
    async with engine_of(address) as engine:
        total = await count_events(engine, session_id)
        with Progress(*Progress.get_default_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("verifying", total=total)

            def checked() -> None:
                nonlocal events
                events += 1
                bar.advance(task)

            found = _only(engine, session_id, checked, kept) if session_id else verify_all(engine, checked, kept=kept)
            async for stream_id, faults in found:
                told = _tell("" if stream_id is None else f"{stream_id} ", faults)
                streams += stream_id is not None
                broken += told > 0
        verdict = f"{broken} with faults" if broken else "nothing was changed"
        print_text(f"{streams} stream(s), {events} event(s): {verdict}")
        await _say_what_it_rests_on(engine, session_id, is_kept=kept is not None)
    return broken == 0


async def _only(
    engine: "AsyncEngine", session_id: SessionId, checked: Callable[[], object], kept: bytes | None
) -> "AsyncIterator[Found]":
    from app.events.types import StreamId  # noqa: PLC0415
    from app.sessions.verifying import Found, verify  # noqa: PLC0415

    faults = [fault async for fault in verify(engine, session_id, checked, kept=kept)]
    yield Found(StreamId(session_id), faults)


async def _say_what_it_rests_on(engine: "AsyncEngine", session_id: SessionId | None, *, is_kept: bool) -> None:
    """Whoever may write to the database can compute all of it anew: only what was kept elsewhere holds against that."""
    from app.database import transaction  # noqa: PLC0415
    from app.events.proof.heads_check import count_unrecorded  # noqa: PLC0415
    from app.events.read import stream_states  # noqa: PLC0415
    from app.events.types import HEADS_STREAM  # noqa: PLC0415

    async with transaction(engine) as db:
        states = await stream_states(db, [HEADS_STREAM if session_id is None else session_id])
        later = await count_unrecorded(db, at_most=MAX_UNRECORDED) if session_id is None else 0
    if not states or not states[0].head:
        say("No heads are recorded yet; a worker does it every minute. A stream that is gone may not be missed.")
        return
    (state,) = states
    of = "the stream of heads, which speaks for all others," if session_id is None else "the stream"
    say(f"The head of {of} is {state.head}; keep its chain elsewhere: {state.head_chain.hex()}")
    if not is_kept:
        say("Without --head-chain and one that was kept, this finds no forger who has computed every chain anew.")
    if later:
        most = " or more" if later == MAX_UNRECORDED else ""
        say(f"{later}{most} event(s) came after the last heads: only their own chains speak for them.")


def _tell(stream: str, faults: "Iterable[Fault]") -> int:
    """Prints them; returns how many there are."""
    count = 0
    for count, fault in enumerate(faults, 1):
        if count <= MAX_FAULTS:
            print_text(clean(f"{stream}{fault}"))
    if count > MAX_FAULTS:
        print_text(f"{stream}… and {count - MAX_FAULTS} more")
    return count
