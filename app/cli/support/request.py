"""What is asked for, checked before anything starts."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import orjson
import typer

from app.cli.client import GatewayClient
from app.cli.support.lookup import find_session
from app.errors import BadInput, BadPath

DEFAULT_TASK = "review and repair this project"
DEFAULT_WORKFLOW = "repair"

PathOption = Annotated[Path | None, typer.Option(help="The project's directory; it is read, never changed.")]
RepoOption = Annotated[str | None, typer.Option(help="Or the https or ssh address of its git repository.")]
WorkflowOption = Annotated[
    str | None,
    typer.Option(
        help="A workflow that a worker serves; or that of the session that is continued.",
        show_default=DEFAULT_WORKFLOW,
    ),
]
InputOption = Annotated[
    str | None, typer.Option("--input", help="The graph's initial state, a JSON object; @FILE reads it from a file.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="What nodes get as runtime.context, a JSON object; or @FILE.")
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", help="How the graph is run: tags, metadata, configurable, recursion_limit; a JSON object, or @FILE."
    ),
]
ContinuesOption = Annotated[
    str | None,
    typer.Option("--continues", help="A session that has succeeded: the new one starts from its end, and its files."),
]


@dataclass(frozen=True, slots=True)
class NewSession:
    """The body of `POST /sessions`. Paths are absolute; `continues` may be a part of an id."""

    task: str
    path: Path | None = None
    repo: str | None = None
    workflow: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    project: str | None = None
    context: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    continues: str | None = None

    @classmethod
    def parse(
        cls,
        task: str,
        *,
        path: Path | None,
        repo: str | None,
        workflow: str | None,
        state: str | None,
        context: str | None,
        config: str | None,
        continues: str | None,
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
        if continues is not None and (path is not None or repo is not None):
            raise BadInput("a session that continues another has that one's files: leave out --path and --repo")
        return cls(
            task,
            path.expanduser().resolve() if path is not None else None,
            repo,
            workflow,
            _read_object(state, "--input") or {},
            priority,
            project,
            _read_object(context, "--context"),
            _read_object(config, "--config"),
            continues,
        )

    @property
    def wants_sample(self) -> bool:
        no_files = self.path is None and self.repo is None and self.continues is None
        return no_files and self.workflow in {None, DEFAULT_WORKFLOW}

    def check_path(self) -> None:
        """Checks the path for a worker on this machine. Raises BadPath."""
        if self.path is not None and not self.path.is_dir():
            raise BadPath(f"{self.path} {'is not a directory' if self.path.exists() else 'does not exist'}")

    def body(self) -> dict[str, Any]:
        said = {
            "task": self.task,
            "workflow": self.workflow,
            "input": self.state,
            "path": str(self.path) if self.path is not None else None,
            "repo": self.repo,
            "priority": self.priority,
            "project": self.project,
            "context": self.context,
            "config": self.config,
            "continues": self.continues,
        }
        return {name: value for name, value in said.items() if value is not None}


def parse_json(text: str, *, option: str) -> Any:
    """Raises BadInput."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{option} is no JSON: {error}") from error


def _read_object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{option}: {text[1:]} cannot be read: {error}") from error
    found = parse_json(text, option=option)
    if not isinstance(found, dict):
        raise BadInput(f"{option} must be a JSON object")
    return found


def create_session(gateway: GatewayClient, request: NewSession, *, idempotency_key: str | None = None) -> Any:
    if request.continues is not None:
        request = replace(request, continues=find_session(gateway, request.continues))
    # A key in any case: an answer that got lost must not make two sessions.
    return gateway.post("/sessions", request.body(), idempotency_key=idempotency_key, once=True)
