"""How what is sent is cut up."""

from app.gateway.streaming.frames import PART_BYTES, parts_of


def test_parts_are_whole_frames_and_nothing_is_lost() -> None:
    frames = [b"id: %d\ndata: %b\n\n" % (n, b"x" * (n * 997 % 5000)) for n in range(200)]
    frames.insert(50, b"data: " + b"y" * 3 * PART_BYTES + b"\n\n")
    parts = list(parts_of(b"".join(frames)))
    assert b"".join(parts) == b"".join(frames)
    assert all(part.endswith(b"\n\n") and part.startswith((b"id: ", b"data: ")) for part in parts)
    assert all(len(part) > PART_BYTES for part in parts[:-1])
    assert sum(len(part) for part in parts) / len(parts) < 2 * PART_BYTES


def test_little_goes_out_as_it_is() -> None:
    assert list(parts_of(b"")) == []
    assert list(parts_of(b": heartbeat\n")) == [b": heartbeat\n"]
