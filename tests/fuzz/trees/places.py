"""What can stand in a directory that is no ordinary file, or is one with an odd history."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.trees.names import any_name

Place = Callable[[Path, Random], None]

READ_NAMES = ("pyproject.toml", "requirements.txt", ".gitignore", "test_x.py", "conftest.py", "ruff.toml", "setup.cfg")


def _free(directory: Path, random: Random) -> Path:
    """A name that a reader looks for, or any, that is not taken yet."""
    name = random.choice(READ_NAMES) if random.random() < 0.7 else os.fsdecode(any_name(random))
    while os.path.lexists(directory / name):
        name = f"x{random.randrange(10**6)}.py"
    return directory / name


def pipe(directory: Path, random: Random) -> None:
    os.mkfifo(_free(directory, random))


def unix_socket(directory: Path, random: Random) -> None:
    place = directory / f"s{random.randrange(10**6)}.py"
    here = os.open(directory, os.O_RDONLY)  # an address holds 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{place.name}")
    finally:
        os.close(here)


def device(directory: Path, random: Random) -> None:
    """One that never ends, where the account may make it."""
    if os.geteuid() == 0:
        os.mknod(_free(directory, random), stat.S_IFCHR | 0o666, os.makedev(1, 5))


def link_to(*targets: str) -> Place:
    def plant(directory: Path, random: Random) -> None:
        _free(directory, random).symlink_to(random.choice(targets))

    return plant


def loop(directory: Path, random: Random) -> None:
    one, other = _free(directory, random), directory / f"l{random.randrange(10**6)}"
    one.symlink_to(other.name)
    other.symlink_to(one.name)


def chain(directory: Path, random: Random) -> None:
    """Links whose way doubles with each."""
    name = f"c{random.randrange(10**6)}-"
    (directory / f"{name}0").symlink_to(".")
    for number in range(1, 40):
        (directory / f"{name}{number}").symlink_to(f"{name}{number - 1}/{name}{number - 1}")


def deep(directory: Path, random: Random) -> None:
    """More directories in a row than a path can name."""
    name = random.choice([b"d", b"a", b"n" * 100, "ü".encode() * 20])
    here = os.open(directory, os.O_RDONLY)
    for _ in range(random.choice([30, 210, 1200])):
        try:
            os.mkdir(name, dir_fd=here)
        except FileExistsError:
            break
        inside = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(os.open(b"leaf.py", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def wide(directory: Path, random: Random) -> None:
    for number in range(random.choice([50, 400])):
        (directory / f"w{number}.py").write_bytes(b"import os\n")


def named_as_a_file(directory: Path, random: Random) -> None:
    _free(directory, random).mkdir()


def sparse(directory: Path, random: Random) -> None:
    """Long, and empty on the disk."""
    with _free(directory, random).open("wb") as file:
        file.truncate(random.choice([3 * 2**20, 40 * 2**20, 2**40]))


def closed(directory: Path, random: Random) -> None:
    """Root reads it all the same."""
    place = _free(directory, random)
    place.write_bytes(b"import os\n")
    place.chmod(random.choice([0, 0o111, 0o7777]))


PLACES: tuple[Place, ...] = (
    pipe,
    unix_socket,
    device,
    link_to("/etc/hostname", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/"),
    link_to("nowhere", "..", ".", "a.py", "../../../../../../etc/passwd", "x" * 250, "new\nline", "\udcff"),
    loop,
    chain,
    deep,
    wide,
    named_as_a_file,
    sparse,
    closed,
)
