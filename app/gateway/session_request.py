"""What `POST /sessions` takes."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from app.gateway.inputs import Body, JsonObject, Text
from app.progress import SessionId
from app.sessions.model import NewSession

RESERVED = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"})
"""Names in `configurable` that are LangGraph's own, besides all that begin with __pregel."""


def _free(configurable: dict[str, Any]) -> dict[str, Any]:
    taken = [name for name in configurable if name in RESERVED or name.startswith("__pregel")]
    if taken:
        raise ValueError(f"{', '.join(sorted(taken))}: LangGraph keeps this for itself; choose another name")
    return configurable


Tag = Annotated[Text, Field(min_length=1, max_length=200)]
Configurable = Annotated[JsonObject, AfterValidator(_free)]


class Options(Body):
    """What a session may be told besides its input; a name that is not known is refused."""


class Config(Body):
    """What LangGraph's `config` may say; the log keeps it."""

    tags: Annotated[list[Tag], Field(max_length=100)] | None = None
    metadata: JsonObject | None = Field(default=None, description="Beside what LangGraph puts there.")
    configurable: Configurable | None = Field(default=None, description="What nodes find in `configurable`.")
    recursion_limit: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="How many supersteps at most; not above STELLWERK_MAX_SUPERSTEPS."
    )

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in dict(self).items() if value is not None}


class SessionRequest(Body):
    """`path` is read on the worker's machine, `repo` is a git URL; with neither the workspace is empty."""

    task: Annotated[Text, Field(min_length=1, max_length=100_000)]
    workflow: Annotated[Text, Field(min_length=1, max_length=200)] = Field(
        default="repair", description="With `continues` it may be left out: it is that session's."
    )
    input: JsonObject = Field(default_factory=dict, description="The graph's initial state.")
    path: Annotated[Text, Field(pattern="^/", max_length=4096)] | None = None
    repo: Annotated[Text, Field(pattern="^(https|ssh)://", max_length=4096)] | None = None
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] = 0
    project: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Only who belongs to no project names one; else it is the key's."
    )
    options: Options = Field(default_factory=Options, description="There is no option yet.")
    context: JsonObject | None = Field(default=None, description="What nodes get as `runtime.context`.")
    config: Config | None = Field(default=None, description="How the graph is run.")
    continues: SessionId | None = Field(
        default=None,
        description="A session that has succeeded, of the same project, workflow and version: the new one starts from"
        " its final state, into which `input` is merged, and from its files.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.path is not None and self.repo is not None:
            raise ValueError("give path or repo, not both")
        return self

    def asked(self) -> NewSession:
        """Without the project, which is the principal's."""
        values = {name: value for name, value in dict(self).items() if name != "project"}
        values |= {"options": self.options.model_dump()}
        if self.config is not None:
            values["config"] = self.config.given()
        if self.continues is not None and "workflow" not in self.model_fields_set:
            values["workflow"] = None
        return NewSession(**values)
