"""One made-up project for each seed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.trees import places, repositories
from tests.fuzz.trees.names import any_name
from tests.fuzz.trees.texts import FILES, any_text

SMALL, LARGE = (3, 40, 400), (5_000, 60_000, 400_000)


@dataclass(frozen=True)
class Project:
    """`planted` says what is in it, for a failure's report."""

    directory: Path
    random: Random
    planted: list[str] = field(default_factory=list)

    @contextmanager
    def restless(self) -> Iterator[None]:
        """Files are cut, grown, replaced by links and removed all the while."""
        ending = threading.Event()
        thread = threading.Thread(target=self._disturb, args=(ending,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        yield

    def _disturb(self, ending: threading.Event) -> None:
        place = self.directory / "restless.py"
        directory = self.directory / "restless"
        while not ending.wait(0.001):
            with suppress(OSError):
                match self.random.randrange(6):
                    case 0:
                        place.write_bytes(b"import os\n" * self.random.randrange(20_000))
                    case 1:
                        os.truncate(place, self.random.randrange(1000))
                    case 2:
                        place.unlink()
                        place.symlink_to("/dev/zero")
                    case 3:
                        place.unlink()
                    case 4:
                        directory.mkdir(exist_ok=True)
                        (directory / "x.py").write_bytes(b"import sys\n")
                    case _:
                        (directory / "x.py").unlink(missing_ok=True)
                        directory.rmdir()
                        directory.symlink_to("/etc")


def plant(directory: Path, seed: int, *, large: bool = True) -> Project:
    """`large`: some of its texts are."""
    random = Random(f"tree {seed}")
    directory.mkdir()
    project = Project(directory, random)
    (directory / "a.py").write_bytes(b"import os\n")
    inside = [directory, _subdirectory(directory, random)]
    sizes = SMALL + LARGE if large else SMALL
    for _ in range(random.randint(1, 6)):
        where = random.choice(inside)
        with suppress(FileExistsError):
            match random.randrange(4):
                case 0:
                    _named(project, where)
                case 1 | 2:
                    name = random.choice(list(FILES))
                    with (where / name).open("xb") as file:
                        file.write(any_text(random, name, sizes))
                    project.planted.append(name)
                case _:
                    place = random.choice(places.PLACES)
                    place(where, random)
                    project.planted.append(getattr(place, "__qualname__", ""))
    if random.random() < 0.5:
        repository = random.choice(repositories.PLANTS)
        repository(directory, random)
        project.planted.append(f".git {repository.__qualname__}")
    return project


def _subdirectory(directory: Path, random: Random) -> Path:
    inside = directory / "tests"
    if random.random() < 0.5:
        name = os.fsdecode(any_name(random))
        inside = directory / (name if name.lower() not in {".git", "a.py"} else "tests")
    inside.mkdir()
    return inside


def _named(project: Project, where: Path) -> None:
    name = any_name(project.random)
    if name.lower() == b".git" and where == project.directory:
        name = b".git~"
    with open(os.path.join(os.fsencode(where), name), "xb") as file:  # noqa: PTH118, PTH123 - the name is bytes
        file.write(b"import os\n")
    project.planted.append(repr(name[:40]))
