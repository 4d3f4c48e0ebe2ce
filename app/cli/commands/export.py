"""`stellwerk export` and `stellwerk verify`: a session's log as a file, and the proof that nothing was changed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.progress import Progress

from app.cli.console import err, examples, print_text, say
from app.cli.support.background_stack import Home
from app.cli.support.configured import read_settings, with_database
from app.cli.support.lookup import Session, session_id_of
from app.errors import BadInput, BadPath
from app.progress import SessionId
from app.terminal import clean

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.events.proof.verify import Fault
    from app.events.types import AnyStreamId

commands = typer.Typer()

MAX_FAULTS = 50
"""Told of one stream; the rest is counted."""


@commands.command(epilog=examples("stellwerk export 019b5a3e -o session.jsonl", "stellwerk export 019b5a3e | gzip"))
def export(
    session: Session,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    home: Home = None,
) -> None:
    """Writes a session's events with all that proves them; `stellwerk verify FILE` needs no database."""
    settings = read_settings(home)
    address = with_database(settings).database_url or ""
    session_id = session_id_of(session, settings)
    try:
        with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
            asyncio.run(_export(address, session_id, file))
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except OSError as error:
        raise BadPath(f"{output or 'standard output'} cannot be written: {error.strerror}") from error


async def _export(address: str, session_id: SessionId, file: BinaryIO) -> None:
    # Imported here, as below: SQLAlchemy takes a while, and --help needs none of it.
    from app.database import transaction  # noqa: PLC0415
    from app.events.proof.export import export as lines_of  # noqa: PLC0415
    from app.events.read import stream_state  # noqa: PLC0415

    async with engine_of(address) as engine:
        async with transaction(engine) as db:
            state = await stream_state(db, session_id)
        async for line in lines_of(engine, state):
            file.write(line)
    file.flush()


@commands.command(
    epilog=examples(
        "stellwerk verify session.jsonl",
        "stellwerk verify session.jsonl --head-chain 5f0c…",
        "stellwerk verify 019b5a3e",
        "stellwerk verify --all",
    )
)
def verify(
    what: Annotated[str | None, typer.Argument(metavar="FILE|SESSION", help="An export, or a session's id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All streams of the database.")] = False,
    head_chain: Annotated[
        str | None, typer.Option(metavar="HEX", help="A chain at head that you kept: it must stand in the file.")
    ] = None,
    home: Home = None,
) -> None:
    """Recomputes digests and chain of an export, or in the database; exit status 1 where anything was changed."""
    if (what is None) == (not everything):
        raise BadInput("give a file, a session or --all")
    if what is not None and (Path(what).is_file() or "." in what or "/" in what):
        whole = _verify_file(Path(what), _kept(head_chain))
    elif head_chain is not None:
        raise BadInput("--head-chain goes with a file")
    else:
        settings = read_settings(home)
        address = with_database(settings).database_url or ""
        session_id = None if what is None else session_id_of(what, settings)
        whole = asyncio.run(_verify_database(address, session_id))
    if not whole:
        raise typer.Exit(1)


def _kept(text: str | None) -> bytes | None:
    try:
        kept = None if text is None else bytes.fromhex(text)
    except ValueError:
        kept = b""
    if kept is not None and len(kept) != 32:
        raise BadInput(f"{text!r} is no chain; it has 64 hexadecimal digits")
    return kept


def _verify_file(path: Path, kept: bytes | None) -> bool:
    from app.events.proof.export import ExportVerifier  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            verifier = ExportVerifier(file.readline(), kept=kept)
            faults = _tell(str(verifier.state.stream_id), verifier.check(file))
    except OSError as error:
        raise BadPath(f"{path} cannot be read: {error.strerror}") from error
    stream, state = verifier.stream, verifier.state
    erased = f" ({stream.erased} of them erased)" if stream.erased else ""
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


async def _verify_database(address: str, session_id: SessionId | None) -> bool:
    from app.events.proof.entries import count_events, stream_ids  # noqa: PLC0415
    from app.sessions.history import verify  # noqa: PLC0415

    streams = broken = 0
    async with engine_of(address) as engine:
        total = await count_events(engine, session_id)
        with Progress(*Progress.get_default_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("verifying", total=total)
            async for stream_id in _only(session_id) if session_id else stream_ids(engine):
                found = verify(engine, stream_id, lambda: bar.advance(task))
                broken += _tell(str(stream_id), [fault async for fault in found]) > 0
                streams += 1
    print_text(f"{streams} stream(s), {total} event(s): {f'{broken} with faults' if broken else 'nothing was changed'}")
    return broken == 0


async def _only(session_id: SessionId) -> "AsyncIterator[AnyStreamId]":
    yield session_id


def _tell(stream: str, faults: "Iterable[Fault]") -> int:
    """Prints them; returns how many there are."""
    count = 0
    for count, fault in enumerate(faults, 1):
        if count <= MAX_FAULTS:
            print_text(clean(f"{stream} {fault}"))
    if count > MAX_FAULTS:
        print_text(f"{stream} … and {count - MAX_FAULTS} more")
    return count


@asynccontextmanager
async def engine_of(address: str) -> "AsyncIterator[AsyncEngine]":
    from app.database import create_engine  # noqa: PLC0415

    engine = create_engine(address, pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()
