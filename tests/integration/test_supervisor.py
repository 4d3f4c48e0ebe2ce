"""The supervisor with real servers, and small commands in place of worker and gateway."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import psutil
import psycopg
import pytest
from redis import Redis

from app.config import Settings
from app.embedded import supervisor
from app.embedded.running import running_stack, supervisor_pid
from app.embedded.strays import end_services, marked
from app.embedded.supervisor import OPTIONS_OF_CELERY, Commands, Stack
from app.errors import EmbeddedServerError, StackRunning
from tests.processes import is_alive, wait_until

GATEWAY = textwrap.dedent("""
    import os
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"workers": 1}')

    HTTPServer(("127.0.0.1", int(os.environ["STELLWERK_PORT"])), Ready).serve_forever()
""")
WORKER = "import signal; signal.pause()"
COMMANDS = Commands(worker=(sys.executable, "-c", WORKER), gateway=(sys.executable, "-c", GATEWAY))


@contextmanager
def watched(home: Path, commands: Commands = COMMANDS) -> Iterator[tuple[Stack, list[str]]]:
    said: list[str] = []
    with Stack(Settings(home=home), commands=commands, say=said.append) as stack:
        watcher = Thread(target=stack.watch)
        watcher.start()
        try:
            yield stack, said
        finally:
            stack.request_stop()
            watcher.join()


@pytest.fixture
def others() -> set[psutil.Process]:
    """The servers of the whole run, which are children of this process too."""
    return set(psutil.Process().children(recursive=True))


def new_children(others: set[psutil.Process]) -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child not in others]


def child(command: str, others: set[psutil.Process]) -> psutil.Process:
    """The descendant of this process whose command line contains `command`."""
    (found,) = (p for p in new_children(others) if command in " ".join(p.cmdline()))
    return found


def test_the_file_tells_where_the_stack_is_and_goes_with_it(home: Path, others: set[psutil.Process]) -> None:
    with watched(home) as (stack, _):
        file = home / "stellwerk.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        content = json.loads(file.read_text())
        assert content.keys() == {"url", "token", "pid", "database_url", "redis_url"}
        assert running_stack(home) == stack.info
        assert supervisor_pid(home) == os.getpid()
        with psycopg.connect(content["database_url"]) as db:
            assert db.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        with Redis.from_url(content["redis_url"]) as client:
            assert client.ping()
        before = (content["url"], content["token"])
    assert running_stack(home) is None
    assert supervisor_pid(home) is None
    assert not file.exists()
    assert not new_children(others)
    with watched(home) as (stack, _):
        assert (stack.info.url, stack.info.token) == before


def test_a_second_stack_on_the_home_is_refused_and_harms_nothing(home: Path) -> None:
    with watched(home) as (stack, _):
        with pytest.raises(StackRunning, match=str(os.getpid())), Stack(Settings(home=home)):
            pass
        assert running_stack(home) == stack.info


@pytest.mark.parametrize(
    "command",
    [WORKER, "HTTPServer", "valkey-server", "bin/postgres"],
    ids=["worker", "gateway", "valkey", "postgres"],
)
def test_what_is_killed_comes_back(home: Path, command: str, others: set[psutil.Process]) -> None:
    with watched(home) as (stack, said):
        victim = child(command, others)
        victim.kill()
        wait_until(lambda: len(said) == 1, what="the supervisor says that it died")
        wait_until(lambda: child(command, others).pid != victim.pid, what="its successor runs", retry_on=ValueError)
        assert "starts again in 0.5 s" in said[0]
        assert running_stack(home) == stack.info


def test_each_process_is_given_only_what_it_needs(
    home: Path, others: set[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "STELLWERK_TOKEN": "the-gateway's",
        "STELLWERK_MIGRATE_URL": "postgresql://the-owner's",
        "OPENAI_API_KEY": "the-models'",
    }
    for name, value in (secrets | dict.fromkeys(OPTIONS_OF_CELERY, "something-else")).items():
        monkeypatch.setenv(name, value)
    with watched(home):
        assert not child(WORKER, others).environ().keys() & OPTIONS_OF_CELERY
        needed = {WORKER: {"OPENAI_API_KEY"}, "HTTPServer": {"STELLWERK_TOKEN"}, "app.embedded.sentinel": set[str]()}
        for command, names in needed.items():
            assert child(command, others).environ().keys() & secrets.keys() == names, command
        database_url = child(WORKER, others).environ()["STELLWERK_DATABASE_URL"]
    assert "//stellwerk_app:" in database_url


def test_what_hides_its_environment_is_found_by_its_command_line(home: Path) -> None:
    """As gateways and workers do that run as an ordinary user."""
    command = marked([sys.executable, "-c", "import signal; print('here', flush=True); signal.pause()"], home)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        end_services(home / "another", patience=0)
        assert process.poll() is None
        end_services(home, patience=0)
        assert process.wait(timeout=10) != 0


def test_a_gateway_that_does_not_start_is_an_error_with_its_last_words(home: Path, others: set[psutil.Process]) -> None:
    commands = COMMANDS._replace(gateway=(sys.executable, "-c", "raise SystemExit('no such gauge')"))
    with pytest.raises(EmbeddedServerError, match="no such gauge"), watched(home, commands):
        pass
    assert not new_children(others)


def test_a_worker_that_does_not_end_when_it_is_asked_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch, others: set[psutil.Process]
) -> None:
    monkeypatch.setattr(supervisor, "SERVICES_PATIENCE", 0.2)
    deaf = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print('deaf', flush=True); s.pause()"
    with watched(home, COMMANDS._replace(worker=(sys.executable, "-c", deaf))):
        wait_until(lambda: "deaf" in (home / "logs" / "worker.log").read_text(), what="it ignores SIGTERM")
    assert not new_children(others)


def test_after_the_supervisor_was_killed_nothing_is_left_and_the_next_one_has_all_data(home: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from tests.integration.test_supervisor import watched
        with watched(Path({str(home)!r})) as (stack, said):
            input()
    """)
    victim = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    assert victim.stdin is not None
    with victim.stdin:
        wait_until(lambda: running_stack(home) is not None, what="the stack runs")
        info = running_stack(home)
        assert info is not None
        with psycopg.connect(info.database_url) as db:
            db.execute("SELECT create_stream(gen_random_uuid(), 'session', 'kept')")
        left = psutil.Process(victim.pid).children(recursive=True)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    assert running_stack(home) is None
    with watched(home) as (stack, _):
        with psycopg.connect(stack.info.database_url) as db:
            assert db.execute("SELECT kind FROM streams WHERE project = 'kept'").fetchone() == ("session",)
        assert stack.info.url == info.url
        assert not [process for process in left if is_alive(process)]
