"""Seals: what was published elsewhere, for another channel or in another epoch is told apart."""

import pytest

from app.events.seals import BrokenSeal, SealKey

KEY = SealKey(7, bytes(range(32)))
CHANNEL = "stellwerk:stream:1"
SEALED = KEY.seal(CHANNEL, b"[1, 1]")


def test_what_was_sealed_is_opened() -> None:
    assert KEY.opened(CHANNEL.encode(), SEALED) == b"[1, 1]"
    assert KEY.opened(b"", KEY.seal("", b"")) == b""


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[1, 1]",
        SEALED[:-1],
        SEALED + b" ",
        SEALED[:39],
        bytes(32) + SEALED[32:],
        SEALED[:32] + SealKey(8, KEY.secret).seal(CHANNEL, b"[1, 1]")[32:],
        SealKey(7, bytes(32)).seal(CHANNEL, b"[1, 1]"),
        SealKey(8, KEY.secret).seal("stellwerk:stream:2", b"[1, 1]"),
        "täglich".encode("latin-1"),
    ],
    ids=[
        "nothing",
        "bare",
        "cut",
        "longer",
        "head-only",
        "no-mac",
        "other-epoch",
        "other-key",
        "other-channel",
        "text",
    ],
)
def test_anything_else_is_not(message: bytes) -> None:
    with pytest.raises(BrokenSeal):
        KEY.opened(CHANNEL.encode(), message)


def test_the_channel_ends_where_it_ends() -> None:
    """What stands at the channel's end cannot be moved to the payload's beginning."""
    moved = SealKey(7, KEY.secret).seal("stream:12", b"x")
    with pytest.raises(BrokenSeal):
        KEY.opened(b"stream:1", moved[:40] + b"2" + moved[40:])
