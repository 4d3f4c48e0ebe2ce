"""Settings: what the environment says, read once where a process begins."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from app.door_settings import DoorSettings, Duration, split

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MIB = 1024 * 1024
MAX_EVENT_BYTES = 256 * 1024
PUSH_INLINE_BYTES = 64 * 1024
STATEMENT_LIMIT = timedelta(seconds=40)
PREFIX = "STELLWERK_"
_KEYS = ("OPENAI_API_KEY", "PERPLEXITY_API_KEY", "ANTHROPIC_API_KEY")
PROVIDER_KEYS = frozenset([*_KEYS, *(f"{PREFIX}{name}" for name in _KEYS)])
"""Variables that only workers need; other processes are started without them."""


def _set(value: object) -> object:
    """An empty variable is one that is not set: Compose hands on what its own environment does not have so."""
    return None if value == "" else value


def _shared(name: str) -> AliasChoices:
    """A variable that a provider's own programs read too; with our prefix it is for Stellwerk alone."""
    return AliasChoices(f"{PREFIX}{name}", name)


def _default_home() -> Path:
    """The user's data directory."""
    return user_data_path("stellwerk", appauthor=False)


class Settings(DoorSettings):
    """Read from `STELLWERK_…` variables (and a `.env` file); durations take seconds or ISO 8601."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a password
        populate_by_name=True,
        use_attribute_docstrings=True,  # `stellwerk settings` prints them
    )

    # --- home and servers: what is unset is embedded by `stellwerk up`
    home: Path = Field(default_factory=_default_home)
    """This directory holds everything that this machine keeps: embedded servers, workspaces, port and token."""
    database_url: str | None = None
    """Postgres is at this address, e.g. `postgresql://user:password@host:5432/name`; if unset, `stellwerk up` embeds
    one."""
    migrate_url: Annotated[str | None, BeforeValidator(_set)] = None
    """`stellwerk migrate` and operators' commands come here, as an owner or superuser; if unset, to `database_url`."""
    redis_url: str | None = None
    """Redis or Valkey is at this address, e.g. `redis://host:6379/0`; if unset, `stellwerk up` embeds one."""
    broker_url: str | None = None
    """Celery's broker is at this address; if unset, Redis is the broker."""
    database_pool_size: int = Field(default=8, ge=2)
    """This many connections to Postgres are open at most in the pool of one process."""
    statement_limit: Duration = STATEMENT_LIMIT
    """A connection that does not answer for this long is given up; it is longer than the wait for a lock (30 s)."""

    # --- the gateway
    url: str | None = None
    """Clients and agents find the gateway at this address; if unset, clients look for the stack that runs on `home`."""
    host: str = "127.0.0.1"
    """The gateway listens on this address; beyond loopback, a project's own code runs only in a sandbox."""
    port: int = Field(default=0, ge=0, le=65535)
    """The gateway listens on this port; 0 means the one that this home used last, or a free one."""
    token: SecretStr | None = None
    """Clients send this bearer token; if unset, `stellwerk up` makes one and keeps it in `home`."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """The gateway answers under these host names besides localhost; `*` stands for any."""
    heartbeat: Duration = timedelta(seconds=15)
    """A stream on which nothing happens says this often that it is alive."""
    send_timeout: Duration = timedelta(seconds=30)
    """A client that takes nothing for this long is cut off; it goes on later from where it was."""
    head_poll: Duration = timedelta(seconds=2)
    """The gateway looks into Postgres this often for events of which Redis did not tell it."""
    id_every: Duration = timedelta(seconds=5)
    """A filtered reader's cursor moves this often over events that it does not want."""
    max_readers: int = Field(default=10_000, ge=1)
    """One gateway process holds this many streams open; a client beyond that is asked to come back."""
    ring_frames: int = Field(default=1024, ge=1)
    """A gateway process keeps this many encoded frames of each stream that a reader follows."""
    ring_bytes: int = Field(default=4 * MIB, ge=1024)
    """The frames that are kept of one stream take at most this many bytes."""
    catch_up_page: int = Field(default=1000, ge=1, le=10_000)
    """A reader that catches up gets at most this many events from one query."""

    # --- metrics, for Prometheus
    metrics_token: Annotated[SecretStr | None, BeforeValidator(_set)] = None
    """This bearer token opens the metrics of the gateway and of workers, and nothing else; if unset, the gateway wants
    the scope `audit`, and workers show theirs on loopback only."""
    metrics_port: Annotated[int | None, Field(ge=0, le=65535), BeforeValidator(_set)] = None
    """Each worker process shows its metrics on this port; 0 means any free one, which its log names. If unset, it shows
    none. Of several workers on one machine the first one gets the port, and the others say so."""
    metrics_host: str = "127.0.0.1"
    """Workers show their metrics on this address; beyond loopback only with `metrics_token`."""

    # --- projects: limits of each one
    project_sessions: int = Field(default=20_000, ge=1)
    """A project has this many sessions at most that have not ended, those that wait for their turn included."""
    project_rate: int = Field(default=500, ge=1)
    """The keys of a project may make this many requests a second, together, to one gateway process."""
    project_streams: int = Field(default=2_000, ge=1)
    """The keys of a project may hold this many streams open, together, at one gateway process."""
    key_streams: int = Field(default=1_000, ge=1)
    """One key, with its cookies and tickets, may hold this many streams open at one gateway process."""
    owner_streams: int = Field(default=10_000, ge=1)
    """The stack's own token, with its cookies and tickets, may hold this many streams open at one gateway process."""

    # --- the log
    max_event_bytes: int = Field(default=MAX_EVENT_BYTES, ge=1024)
    """A larger event is refused; a result or an answer of a model that is larger becomes an artifact beside the log."""
    max_report_bytes: int = Field(default=64 * 1024, ge=1024)
    """An event that a step token appends, for a program that a step has started, is refused if it is larger."""
    max_reports: int = Field(default=10_000, ge=0)
    """The step token of an attempt appends this many events at most."""
    max_reports_bytes: int = Field(default=16 * MIB, ge=0)
    """The events that the step token of an attempt appends have this many bytes at most, together."""
    push_inline_bytes: int = Field(default=PUSH_INLINE_BYTES, ge=0)
    """A larger message to readers names only the offsets, and they fetch the events from Postgres."""

    # --- workflows, steps and leases
    workflows: Annotated[tuple[str, ...], NoDecode] = ("workers.workflows.repair",)
    """Workers serve the workflows of these modules, each of which has `WORKFLOWS: dict[str, Workflow]`."""
    allowed_state_types: Annotated[tuple[str, ...], NoDecode] = ()
    """Snapshots may hold these types, written as `module:Name`, besides those of the state schemas."""
    concurrency: int = Field(default=16, ge=1)
    """One worker process runs this many steps at a time."""
    lease: Duration = timedelta(seconds=60)
    """A worker that has not renewed an attempt's lease for this long has lost it, and the step starts again."""
    heartbeat_steps: Duration = timedelta(seconds=15)
    """A worker renews the leases of its attempts this often."""
    rescue_every: Duration = timedelta(seconds=3)
    """A worker looks this often for steps and sessions that were lost on the way."""
    ring_again_after: Duration = timedelta(seconds=15)
    """A queued step that no worker claimed for this long is sent again (then with back-off)."""
    step_time_limit: Duration = timedelta(hours=1)
    """An attempt of a step may take this long, unless its node says otherwise."""
    fold_time_limit: Duration = timedelta(seconds=30)
    """A fold, in which routers and reducers run, may take this long; then the session fails."""
    max_attempts: int = Field(default=3, ge=1)
    """A step that has failed this often fails its session, unless its node says otherwise."""
    max_lost: int = Field(default=10, ge=1)
    """A step that was lost this often with its worker fails its session: it probably kills them."""
    worker_memory_bytes: int = Field(default=4096 * MIB, ge=256 * MIB)
    """A worker process whose resident memory is above it ends: its steps are lost, and each runs next alone in a
    process. A step that is too large there fails. What agents start as processes of their own is not counted."""
    retry_delay: Duration = timedelta(seconds=1)
    """A step that failed waits this long, then twice as long after each further failure, up to five minutes."""
    max_active_sessions: int = Field(default=100, ge=1)
    """This many sessions run at a time; the others wait for their turn, by priority, then age."""
    max_supersteps: int = Field(default=10_000, ge=1)
    """A session that has made this many supersteps fails: its graph probably goes in circles."""

    # --- workspaces
    workspaces: Path | None = None
    """Sessions' git repositories lie in this directory, which workers on several machines share; if unset, they lie in
    `home`."""
    paths: Annotated[tuple[Path, ...] | None, NoDecode] = None
    """A session's `path` must lie below one of these directories; if unset, any will do for a stack on loopback, and
    none otherwise."""
    max_project_files: int = Field(default=100_000, ge=1)
    """A project with more files is refused."""
    max_project_bytes: int = Field(default=1024 * MIB, ge=1)
    """A project with more bytes is refused."""
    min_free_bytes: int = Field(default=256 * MIB, ge=0)
    """New sessions are refused while the disk under the workspaces or the home has less room; 0 means never."""
    credentials_key: Annotated[SecretStr | None, BeforeValidator(_set)] = None
    """What opens a repository is encrypted by it until that is cloned; if unset, by the password in `database_url`."""
    sandbox: str = ""
    """A project's own code (its tests), and ruff on its files, run under this command prefix, e.g. `scripts/sandbox …`;
    where the worker is root, as an ordinary user in it."""
    test_time_limit: Duration = timedelta(minutes=10)
    """A project's tests may run this long; then they are ended."""

    # --- who does an agent's work
    supervisor: Literal["auto", "rules", "openai"] = "auto"
    """This decides, as supervisor, who works next; `auto` is OpenAI if its key or address is set, else rules."""
    research: Literal["auto", "rules", "perplexity", "openai"] = "auto"
    """This looks up, as research, what the task needs; `auto` is Perplexity if its key is set, else rules."""
    architect: Literal["auto", "rules", "openai"] = "auto"
    """This plans, as architect, what is to be done; `auto` is OpenAI if its key or address is set, else rules."""
    codesmith: Literal["auto", "rules", "claude"] = "auto"
    """This changes, as codesmith, the project; `auto` is the Claude CLI if Anthropic's key is set, else rules."""
    reviewfix: Literal["auto", "rules", "claude"] = "auto"
    """This reviews, as reviewfix, what was changed; `auto` is the Claude CLI if Anthropic's key is set, else rules."""

    # --- models
    openai_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("OPENAI_API_KEY"))
    """This key opens OpenAI, or the compatible server."""
    openai_base_url: str | None = Field(default=None, validation_alias=_shared("OPENAI_BASE_URL"))
    """OpenAI, or any compatible server, is at this address, e.g. `http://localhost:11434/v1`; such a one often needs no
    key."""
    openai_model: str = "gpt-5.1"
    """OpenAI, or the compatible server, is asked for this model."""
    openai_background: bool = False
    """The architect's calls go on at the provider when a worker dies, and the next attempt takes them up."""
    perplexity_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("PERPLEXITY_API_KEY"))
    """This key opens Perplexity."""
    perplexity_base_url: str = "https://api.perplexity.ai"
    """Perplexity is at this address."""
    perplexity_model: str = "sonar-pro"
    """Perplexity is asked for this model."""
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("ANTHROPIC_API_KEY"))
    """The Claude CLI is given this key; if unset, it uses its own login."""
    anthropic_base_url: str | None = Field(default=None, validation_alias=_shared("ANTHROPIC_BASE_URL"))
    """The Claude CLI calls models at this address; if unset, at Anthropic's own."""
    claude_command: str | None = None
    """This command is the Claude CLI; if unset, `claude` from the PATH is, else the copy in claude-agent-sdk."""
    claude_model: str | None = None
    """The Claude CLI is asked for this model; if unset, it chooses one itself."""
    claude_permission_mode: Literal["acceptEdits", "manual", "dontAsk", "plan", "bypassPermissions"] = "acceptEdits"
    """The Claude CLI works in this mode; `bypassPermissions` is refused without a sandbox."""
    claude_tools: Annotated[tuple[str, ...], NoDecode] = ("Read", "Edit", "Write", "Glob", "Grep")
    """The Claude CLI may use these tools without being asked; Bash among them would run as you."""
    claude_max_retries: int = Field(default=5, ge=0)
    """The Claude CLI tries a call again this often by itself; each time is an event."""
    claude_silence: Duration = timedelta(minutes=10)
    """A Claude CLI that writes no line for this long is ended."""
    record_models: Literal["full", "digest", "off"] = "full"
    """This is recorded of calls of models and tools: requests and answers, or (`digest`) only their SHA-256, sizes and
    tokens; with `off`, LangChain's leave nothing, and of what agents record by themselves the digests are kept."""
    model_time_limit: Duration = timedelta(minutes=10)
    """One call of a model may take this long; the Claude CLI has no limit but its silence and its step's."""
    max_turns: int = Field(default=24, ge=1)
    """A model makes this many decisions for one session; after them the rules bring it to its end."""
    model_concurrency: int = Field(default=8, ge=1)
    """One provider gets this many calls at the same time, from all workers together."""
    model_rate: str = ""
    """One provider gets calls at this rate, e.g. `60/minute`, from all workers together; if empty, at any rate."""
    circuit_failures: int = Field(default=5, ge=1)
    """A provider that failed this often within `circuit_window` is left alone until the window has moved on."""
    circuit_window: Duration = timedelta(seconds=30)
    """A provider's failures count for this long."""
    session_budget_usd: float | None = Field(default=None, gt=0)
    """A session that has spent this many dollars waits until a person raises it; if unset, there is no limit."""
    session_budget_tokens: int | None = Field(default=None, gt=0)
    """A session that has used this many tokens waits until a person raises it; if unset, there is no limit."""

    # --- logging
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Programs write log lines of this level and above to standard error."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """Log lines have this form; `auto` is text on a terminal, else JSON."""

    @field_validator("workflows", "allowed_hosts", "allowed_state_types", "paths", "claude_tools", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split(value)

    @classmethod
    def variables(cls, name: str) -> tuple[str, ...]:
        """Returns the environment variables that give a setting; the first one that is set counts."""
        alias = cls.model_fields[name].validation_alias
        return tuple(map(str, alias.choices)) if isinstance(alias, AliasChoices) else (f"{PREFIX}{name.upper()}",)

    def worker_environment(self) -> dict[str, str]:
        """This process' environment, for another process of the same worker."""
        return dict(os.environ)

    @property
    def workspaces_dir(self) -> Path:
        return self.workspaces or self.home / "workspaces"

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK


def settings() -> Settings:
    """Reads the environment: once, where a process begins. Everything else is given its settings (TID251 says so)."""
    return Settings()
