"""What is asked for, checked before anything starts."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self
from uuid import uuid4

import orjson
import typer

from app.cli.client import GatewayClient
from app.errors import BadInput, BadPath

DEFAULT_TASK = "review and repair this project"
DEFAULT_WORKFLOW = "repair"

PathOption = Annotated[Path | None, typer.Option(help="The project's directory; it is read, never changed.")]
RepoOption = Annotated[str | None, typer.Option(help="Or the https or ssh address of its git repository.")]
WorkflowOption = Annotated[str, typer.Option(help="A workflow that a worker serves.")]
InputOption = Annotated[
    str | None, typer.Option("--input", help="The graph's initial state, a JSON object; @FILE reads it from a file.")
]


@dataclass(frozen=True, slots=True)
class NewSession:
    """The body of `POST /sessions`. Paths are absolute."""

    task: str
    path: Path | None = None
    repo: str | None = None
    workflow: str = DEFAULT_WORKFLOW
    state: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    project: str | None = None

    @classmethod
    def parse(
        cls,
        task: str,
        *,
        path: Path | None,
        repo: str | None,
        workflow: str,
        state: str | None,
        priority: int = 0,
        project: str | None = None,
    ) -> Self:
        """Raises BadInput."""
        if not task.strip():
            raise BadInput("the task is empty")
        if path is not None and repo is not None:
            raise BadInput("give --path or --repo, not both")
        if repo is not None and not re.fullmatch(r"(https|ssh)://\S+", repo):
            raise BadInput(f"{repo!r} is no https:// or ssh:// address; a directory is given with --path")
        absolute = path.expanduser().resolve() if path is not None else None
        return cls(task, absolute, repo, workflow, _read_state(state), priority, project)

    @property
    def wants_sample(self) -> bool:
        return self.path is None and self.repo is None and self.workflow == DEFAULT_WORKFLOW

    def check_path(self) -> None:
        """Checks the path for a worker on this machine. Raises BadPath."""
        if self.path is not None and not self.path.is_dir():
            raise BadPath(f"{self.path} {'is not a directory' if self.path.exists() else 'does not exist'}")

    def body(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "workflow": self.workflow,
            "input": self.state,
            "path": str(self.path) if self.path is not None else None,
            "repo": self.repo,
            "priority": self.priority,
            "project": self.project,
        }


def parse_json(text: str, *, option: str) -> Any:
    """Raises BadInput."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{option} is no JSON: {error}") from error


def _read_state(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"--input: {text[1:]} cannot be read: {error}") from error
    state = parse_json(text, option="--input")
    if not isinstance(state, dict):
        raise BadInput("--input must be a JSON object")
    return state


def create_session(gateway: GatewayClient, request: NewSession, *, idempotency_key: str | None = None) -> Any:
    # A key in any case: an answer that got lost must not make two sessions.
    return gateway.post("/sessions", request.body(), idempotency_key=idempotency_key or str(uuid4()), patient=True)
