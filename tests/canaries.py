"""Secrets that are planted, and where they are looked for: no test of these asks the code that is to hide them."""

import base64
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import psutil
import psycopg
from redis import Redis

SERVICES = ("workers.main", "app.gateway", "workers.process.alone")
"""Programs that must have secrets in their environment."""


def forms_of(secret: str) -> list[str]:
    """Each as it can be met."""
    triples = [base64.b64encode(b"x" * offset + secret.encode()).decode() for offset in range(3)]
    cores = [text[4:-4] for text in triples]
    return [secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1], *cores]


class Canaries:
    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets
        forms = {form: name for name, secret in secrets.items() for form in forms_of(secret)}
        self._names = forms
        self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))).encode())

    def in_(self, content: bytes | str) -> list[str]:
        """Names of those that can be read there, with what stands before."""
        data = content if isinstance(content, bytes) else content.encode(errors="replace")
        return [
            f"{self._names[found[0].decode()]} after {data[max(0, found.start() - 80) : found.start()]!r}"
            for found in self._pattern.finditer(data)
        ]

    def in_database(self, url: str) -> dict[str, list[str]]:
        """Every column of every table, as text and as bytes."""
        leaks = dict[str, list[str]]()
        with psycopg.connect(url) as db:
            tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            assert len(tables) > 10
            for (table,) in tables:
                cursor = db.execute(f'SELECT * FROM "{table}"')
                names = [column.name for column in cursor.description or ()]
                for row in cursor:
                    for name, value in zip(names, row, strict=True):
                        if found := self.in_(_as_bytes(value)):
                            leaks.setdefault(f"{table}.{name}", []).extend(found[:3])
        return leaks

    def in_redis(self, url: str) -> list[str]:
        with Redis.from_url(url) as redis:
            dumps = [(key, redis.dump(key) or b"") for key in redis.scan_iter("*")]
        return [f"{key!r}: {found}" for key, dump in dumps for found in self.in_(key + dump)]

    def in_files(self, directory: Path, *, but: Iterable[Path] = ()) -> dict[str, list[str]]:
        """`but` are files and directories that are left out."""
        left_out = set(but)
        found = dict[str, list[str]]()
        for place, directories, files in os.walk(directory):
            directories[:] = [name for name in directories if Path(place) / name not in left_out]
            for file in (Path(place) / name for name in files):
                if file not in left_out and file.is_file() and (leaks := self.in_(file.read_bytes())):
                    found[str(file.relative_to(directory))] = leaks[:3]
        return found

    @contextmanager
    def watching_processes(self, stack: int) -> Iterator[list[str]]:
        """What is seen meanwhile in command lines below the stack, and in environments of what workers start."""
        seen, over = list[str](), threading.Event()
        known = set[str]()

        def watch() -> None:
            while not over.wait(0.05):
                for process in psutil.Process(stack).children(recursive=True):
                    seen.extend(self._in_process(process, known))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()

    def _in_process(self, process: psutil.Process, known: set[str]) -> list[str]:
        """A process is looked at once, and again when it has become another program."""
        try:
            line = " ".join(process.cmdline())
            if f"{process.pid} {line}" in known:
                return []
            known.add(f"{process.pid} {line}")
            leaks = self.in_(line)
            parents = [" ".join(parent.cmdline()) for parent in process.parents()]
            if any("workers.main" in parent for parent in parents) and not any(name in line for name in SERVICES):
                leaks += self.in_("\n".join(f"{name}={value}" for name, value in process.environ().items()))
        except psutil.Error:
            return []
        return [f"{line[:200]}: {leak}" for leak in leaks]


@contextmanager
def hearing(url: str) -> Iterator[list[bytes]]:
    """All that is published meanwhile."""
    heard, over = list[bytes](), threading.Event()
    redis = Redis.from_url(url)
    listener = redis.pubsub()  # type: ignore[no-untyped-call]  # the library has no types here
    listener.psubscribe("*")

    def listen() -> None:
        while not over.is_set():
            if message := listener.get_message(timeout=0.1):
                heard.append(repr(message).encode())

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        listener.close()
        redis.close()


def _as_bytes(value: Any) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode(errors="replace")
        case list() | dict():
            return repr(value).encode() + orjson.dumps(value, default=repr)
        case _:
            return repr(value).encode()


def everything_said(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout + done.stderr
