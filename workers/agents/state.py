"""What the agents of `repair` know of each other: the graph's state, plain enough for JSON."""

import operator
from typing import Annotated, Literal, TypedDict

from workers.tools.outcome import Counts


class Survey(TypedDict):
    """research: what kind of project this is."""

    files: int
    python_files: int
    lines: int
    requires_python: str | None
    dependencies: list[str]
    imports: list[str]
    not_installed: list[str]
    unparsable: list[str]


class SuiteResult(TypedDict):
    """One run of the project's tests; `counts` is None when there are none, for the reason in `problem`."""

    counts: Counts | None
    failing: list[str]
    problem: str | None


class Findings(TypedDict):
    """One run of `ruff check`; `problem` says why the project's own configuration was left aside."""

    total: int
    by_file: dict[str, int]
    problem: str | None


class PlanItem(TypedDict):
    """`fix` and `format` are codesmith's; `person` names what needs one."""

    action: Literal["fix", "format", "person"]
    rule: str
    title: str
    count: int
    files: list[str]


class Formatting(TypedDict):
    """All files only where the project declares a formatter; otherwise those that a fix changes anyway."""

    scope: Literal["all", "changed"]
    options: list[str]
    reason: str


class Routing(TypedDict):
    """One decision of the supervisor."""

    next_agent: str
    reasoning: str


class Notes(TypedDict):
    """research with a model: what it found, and what that rests on."""

    text: str
    citations: list[str]


class DesignStep(TypedDict):
    title: str
    files: list[str]
    instructions: str


class Design(TypedDict):
    """architect with a model: what is to be done, in which order."""

    summary: str
    steps: list[DesignStep]


class RepairInput(TypedDict, total=False):
    task: str
    path: str | None
    repo: str | None


class RepairResult(TypedDict, total=False):
    summary: str
    findings_before: int
    findings_after: int
    tests_before: Counts | None
    tests_after: Counts | None


class RepairState(RepairInput, RepairResult, total=False):
    survey: Survey
    findings: Findings
    tests: SuiteResult
    plan: list[PlanItem]
    formatting: Formatting
    decisions: Annotated[list[Routing], operator.add]
    instructions: str
    """What the supervisor wants of the agent that is next; from a model only."""
    notes: Notes
    design: Design
    written: str
    """What codesmith says it did, if it worked with a model."""
    review: str
    """What reviewfix says it found, if it worked with a model."""
    changed: list[str]
    """Files that codesmith changed; not set before it ran."""
    reviewed: bool
    taken_back: dict[str, str]
    """Files that reviewfix put back, each with the reason."""
    remarks: Annotated[list[str], operator.add]
    """What the summary has to say besides the numbers; parallel agents may add at once."""
