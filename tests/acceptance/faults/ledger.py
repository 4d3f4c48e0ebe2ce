"""What producers were told, kept outside of the system under test: one file of JSON lines for each process.

A line is written before a report is made, and another one when it was acknowledged. A line goes out in one
write, so a SIGKILL leaves whole lines.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

DIRECTORY = "FAULTS_LEDGER"


@dataclass(frozen=True, slots=True)
class Entry:
    """`offset` is None before the acknowledgement. `key` is unique for each report that was ever tried."""

    key: str
    session_id: str
    step: int
    attempt: int
    message: str
    offset: int | None = None


def note(entry: Entry) -> None:
    os.write(_file(), json.dumps(asdict(entry)).encode() + b"\n")


@lru_cache(maxsize=1)
def _file() -> int:
    path = Path(os.environ[DIRECTORY]) / f"{os.getpid()}-{os.urandom(4).hex()}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def read(directory: Path) -> Iterator[Entry]:
    for path in directory.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            yield Entry(**json.loads(line))
