"""What must not be left behind: processes, connections, file descriptors, memory."""

import asyncio
import subprocess
import sys
import time

import psutil

from app.config import MIB
from tests.acceptance.faults.deployment import Deployment
from tests.acceptance.faults.verdict import Verdict
from tests.processes import is_alive

QUIET_SECONDS = 20.0
CONNECTIONS_EACH = 8 + 2 + 1
"""The pool, two flushers and the heartbeat of a worker; a gateway has the pool only."""
MAX_FDS = 150
MAX_BYTES = 400 * MIB
"""A worker has imported LangGraph and its clients: 150 MB on the first day. A leak grows by the session."""


async def connections_and_memory(deployment: Deployment) -> list[Verdict]:
    """While everything still runs, and nobody asks for anything."""
    most = CONNECTIONS_EACH * len(deployment.programs)
    started = time.monotonic()
    found, readers = _connections(deployment), _readers(deployment)
    while (found > most or readers) and time.monotonic() - started < QUIET_SECONDS:
        await asyncio.sleep(0.2)
        found, readers = _connections(deployment), _readers(deployment)
    too_many = [f"{found} connections to Postgres, at most {most} are pooled"] if found > most else []
    too_many += [f"{readers} readers' connections are still open"] if readers else []
    usages = {program.name: program.usage for program in deployment.programs}
    large = [
        f"{name}: {rss // MIB} MiB, {fds} files"
        for name, (rss, fds) in usages.items()
        if rss > MAX_BYTES or fds > MAX_FDS
    ]
    told = ", ".join(f"{name} {rss // MIB} MiB {fds} files" for name, (rss, fds) in usages.items())
    return [
        Verdict("connections go back", f"{found} to Postgres, {readers} from readers", tuple(too_many)),
        Verdict("memory and open files stay bounded", told, tuple(large)),
    ]


def _readers(deployment: Deployment) -> int:
    return sum(door.connections for door in deployment.doors)


def _connections(deployment: Deployment) -> int:
    """As the programs have them; what a proxy has forgotten the server may hold longer."""
    port = deployment.postgres_proxy.port
    processes = [psutil.Process(p.process.pid) for p in deployment.programs if p.process is not None]
    connections = [connection for process in processes for connection in process.net_connections(kind="tcp")]
    return sum(bool(connection.raddr) and connection.raddr.port == port for connection in connections)


def orphans(deployment: Deployment) -> Verdict:
    """After everything was told to end: what still has our mark or our home in its environment or command."""
    home = str(deployment.directory)
    servers = {deployment.postgres.name, deployment.valkey.name}
    left = [
        f"{process.pid} {' '.join(process.info['cmdline'] or [])[:120]}"
        for process in psutil.process_iter(["cmdline", "environ", "name"])
        if is_alive(process)
        and not str(process.info["name"]).startswith(tuple(servers))
        and (
            str(deployment.ledger) in " ".join(process.info["cmdline"] or [])
            or (process.info["environ"] or {}).get("STELLWERK_HOME") == home
        )
    ]
    return Verdict("no process is left behind", f"{sum(p.lives for p in deployment.programs)} lives", tuple(left))


def rebuilt(deployment: Deployment) -> Verdict:
    """`stellwerk rebuild --all --check`, as people run it."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "rebuild", "--all", "--check"],
        env=deployment.direct_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if not line.endswith((" same", " skipped"))]
    violations = tuple(lines) if lines or not done.returncode else (done.stderr[-500:],)
    return Verdict("rebuilt from the log, states are the same", done.stderr.strip().splitlines()[-1], violations)
