"""What a worker's start must not wait for."""

import os
import subprocess
import sys

ADDRESSES = {"STELLWERK_DATABASE_URL": "postgresql://nobody@127.0.0.1/none", "STELLWERK_REDIS_URL": "redis://127.0.0.1"}


def test_a_worker_starts_without_what_only_models_need() -> None:
    heavy = {"openai", "genai_prices", "limits", "mcp", "alembic", "fastapi", "starlette", "typer"}
    code = "import sys, workers.main; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, **ADDRESSES, "STELLWERK_WORKFLOWS": "workers.workflows.repair"}
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert {"celery", "langgraph"} <= set(loaded.split())
    assert not heavy & set(loaded.split())
