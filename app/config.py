"""Settings: the only reader of the environment."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1024 * 1024
MAX_EVENT_BYTES = 256 * 1024
_KEYS = ("OPENAI_API_KEY", "PERPLEXITY_API_KEY", "ANTHROPIC_API_KEY")
PROVIDER_KEYS = frozenset([*_KEYS, *(f"STELLWERK_{name}" for name in _KEYS)])
"""Variables that only workers need; other processes are started without them."""


def _seconds(value: object) -> object:
    """A bare number is seconds; pydantic alone would take it only as a number, not as a variable's text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


def _shared(name: str) -> AliasChoices:
    """A variable that a provider's own programs read too; with our prefix it is for Stellwerk alone."""
    return AliasChoices(f"STELLWERK_{name}", name)


def _default_home() -> Path:
    return user_data_path("stellwerk", appauthor=False)


class Settings(BaseSettings):
    """Read from `STELLWERK_…` variables (and a `.env` file); durations take seconds or ISO 8601."""

    model_config = SettingsConfigDict(
        env_prefix="STELLWERK_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Field(default_factory=_default_home)
    """Everything that this machine keeps: embedded servers, workspaces, port and token."""

    # --- servers: what is unset is embedded by `stellwerk up`
    database_url: str | None = None
    """SQLAlchemy or libpq address, e.g. postgresql://user:password@host:5432/name."""
    redis_url: str | None = None
    broker_url: str | None = None
    """Celery's broker; the Redis address if unset."""
    database_pool_size: int = Field(default=8, ge=2)
    statement_limit: Duration = timedelta(seconds=40)
    """A connection that does not answer for this long is given up; longer than the wait for a lock (30 s)."""

    # --- the gateway
    url: str | None = None
    """Where a client finds the gateway; else read from the running stack in `home`."""
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0: the port that this home used last, or a free one."""
    token: SecretStr | None = None
    """The bearer token; else kept in `home`."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names besides localhost under which the gateway answers; '*' for any."""
    heartbeat: Duration = timedelta(seconds=15)
    send_timeout: Duration = timedelta(seconds=30)
    head_poll: Duration = timedelta(seconds=2)
    id_every: Duration = timedelta(seconds=5)
    """How often a filtered reader's cursor moves over events that it does not want."""
    max_readers: int = Field(default=10_000, ge=1)
    """Open streams of one gateway process; a client beyond that is asked to come back."""
    ring_frames: int = Field(default=1024, ge=1)
    """Encoded frames kept per followed stream and gateway process."""
    ring_bytes: int = Field(default=4 * MIB, ge=1024)
    catch_up_page: int = Field(default=1000, ge=1, le=10_000)

    # --- the log
    max_event_bytes: int = Field(default=MAX_EVENT_BYTES, ge=1024)
    push_inline_bytes: int = Field(default=64 * 1024, ge=0)
    """A publish larger than this names only the offsets; readers fetch them from Postgres."""

    # --- workflows, steps and leases
    workflows: Annotated[tuple[str, ...], NoDecode] = ("workers.workflows.repair",)
    """Modules with WORKFLOWS: dict[str, Workflow]."""
    allowed_state_types: Annotated[tuple[str, ...], NoDecode] = ()
    """Types besides the state schemas' own that snapshots may hold, as module:Name."""
    concurrency: int = Field(default=16, ge=1)
    lease: Duration = timedelta(seconds=60)
    heartbeat_steps: Duration = timedelta(seconds=15)
    rescue_every: Duration = timedelta(seconds=3)
    ring_again_after: Duration = timedelta(seconds=15)
    """A queued step that no worker claimed for this long is sent again (then with back-off)."""
    step_time_limit: Duration = timedelta(hours=1)
    fold_time_limit: Duration = timedelta(seconds=30)
    max_attempts: int = Field(default=3, ge=1)
    max_lost: int = Field(default=10, ge=1)
    worker_memory_bytes: int = Field(default=4096 * MIB, ge=256 * MIB)
    """A worker process whose resident memory is above it ends: its steps are lost, and each runs next alone in a
    process. A step that is too large there fails. What agents start as processes of their own is not counted."""
    retry_delay: Duration = timedelta(seconds=1)
    max_active_sessions: int = Field(default=100, ge=1)
    """Sessions that run at a time; the others wait for their turn, by priority, then age."""
    max_supersteps: int = Field(default=10_000, ge=1)

    # --- workspaces
    workspaces: Path | None = None
    """Where sessions' git repositories lie; below `home` if unset. Workers on several machines share it."""
    paths: Annotated[tuple[Path, ...] | None, NoDecode] = None
    """Directories below which a session's `path` must lie; unset: any for a stack on loopback, else none."""
    max_project_files: int = Field(default=100_000, ge=1)
    max_project_bytes: int = Field(default=1024 * MIB, ge=1)
    sandbox: str = ""
    """A command prefix under which a project's own code (its tests) runs, e.g. 'bwrap --unshare-net …'."""
    test_time_limit: Duration = timedelta(minutes=10)

    # --- who does an agent's work; auto: the model of the seed where its key is found, else rules
    supervisor: Literal["auto", "rules", "openai"] = "auto"
    research: Literal["auto", "rules", "perplexity", "openai"] = "auto"
    architect: Literal["auto", "rules", "openai"] = "auto"
    codesmith: Literal["auto", "rules", "claude"] = "auto"
    reviewfix: Literal["auto", "rules", "claude"] = "auto"

    # --- models
    openai_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("OPENAI_API_KEY"))
    openai_base_url: str | None = Field(default=None, validation_alias=_shared("OPENAI_BASE_URL"))
    """Any compatible server, e.g. http://localhost:11434/v1; such a one often needs no key."""
    openai_model: str = "gpt-5.1"
    openai_background: bool = False
    """The architect's calls go on at the provider when a worker dies, and the next attempt takes them up."""
    perplexity_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("PERPLEXITY_API_KEY"))
    perplexity_base_url: str = "https://api.perplexity.ai"
    perplexity_model: str = "sonar-pro"
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("ANTHROPIC_API_KEY"))
    anthropic_base_url: str | None = Field(default=None, validation_alias=_shared("ANTHROPIC_BASE_URL"))
    claude_command: str | None = None
    """The Claude CLI; else `claude` from the PATH, else the copy that claude-agent-sdk bundles."""
    claude_model: str | None = None
    claude_permission_mode: Literal["acceptEdits", "manual", "dontAsk", "plan", "bypassPermissions"] = "acceptEdits"
    """bypassPermissions is refused without STELLWERK_SANDBOX."""
    claude_tools: Annotated[tuple[str, ...], NoDecode] = ("Read", "Edit", "Write", "Glob", "Grep")
    """What the CLI may use, without being asked. Bash runs as you."""
    claude_max_retries: int = Field(default=5, ge=0)
    """How often the CLI tries a call again by itself; each time is an event."""
    claude_silence: Duration = timedelta(minutes=10)
    """A CLI that writes no line for this long is ended."""
    model_time_limit: Duration = timedelta(minutes=10)
    max_turns: int = Field(default=24, ge=1)
    """Decisions that a model makes for one session; after them the rules bring it to its end."""
    model_concurrency: int = Field(default=8, ge=1)
    """Calls at the same time to one provider, across all workers."""
    model_rate: str = ""
    """Calls to one provider, across all workers, e.g. '60/minute'; empty: no limit of ours."""
    circuit_failures: int = Field(default=5, ge=1)
    """A provider that failed this often within `circuit_window` is left alone until the window has moved on."""
    circuit_window: Duration = timedelta(seconds=30)
    session_budget_usd: float | None = Field(default=None, gt=0)
    """A session that has spent this waits until a person raises it."""
    session_budget_tokens: int | None = Field(default=None, gt=0)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"

    @field_validator("workflows", "allowed_hosts", "allowed_state_types", "paths", "claude_tools", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    def worker_environment(self) -> dict[str, str]:
        """This process' environment, for another process of the same worker."""
        return dict(os.environ)

    def secrets(self) -> tuple[str, ...]:
        """The values that must not be seen."""
        found = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in found if isinstance(value, SecretStr))

    @property
    def workspaces_dir(self) -> Path:
        return self.workspaces or self.home / "workspaces"

    @property
    def on_loopback(self) -> bool:
        return self.host in {"127.0.0.1", "::1", "localhost"}


def settings() -> Settings:
    """Reads the environment: once, where a process begins. Everything else is given its settings (TID251 says so)."""
    return Settings()
