"""The agents' rules, without running anything."""

from collections.abc import Sequence

import pytest

from workers.agents.architect import make_plan
from workers.agents.rules import decide
from workers.agents.state import Findings, PlanItem, RepairState, SuiteResult, Survey
from workers.agents.summary import summarise
from workers.tools.files import shown
from workers.tools.outcome import Counts, TestOutcome, read_unittest
from workers.tools.ruff import Finding
from workers.tools.sifting import sift

SURVEY = Survey(
    files=3,
    python_files=2,
    lines=10,
    requires_python=None,
    dependencies=[],
    imports=[],
    not_installed=[],
    unparsable=[],
)
FIX = PlanItem(action="fix", rule="F401", title="`os` imported but unused", count=3, files=["a.py"])
PERSON = PlanItem(action="person", rule="E722", title="Do not use bare `except`", count=1, files=["a.py"])


def known(plan: list[PlanItem], **more: object) -> RepairState:
    counts = Counts(passed=4, failed=1, errors=0)
    state = RepairState(
        task="fix the lint errors",
        survey=SURVEY,
        findings=Findings(total=4, by_file={"a.py": 4}, problem=None),
        findings_before=4,
        tests=SuiteResult(counts=counts, failing=["t"], problem=None),
        tests_before=counts,
        plan=plan,
        remarks=[],
    )
    return RepairState(**{**state, **more})  # type: ignore[typeddict-item] # the tests' own names


@pytest.mark.parametrize(
    ("state", "agents"),
    [
        (RepairState(task="x"), ("research", "architect")),
        (RepairState(survey=SURVEY), ("research", "architect")),
        (known([FIX, PERSON]), ("codesmith",)),
        (known([PERSON]), ()),
        (known([]), ()),
        (known([], survey=SURVEY | {"python_files": 0}), ()),
        (known([FIX], changed=["a.py"], reviewed=False), ("reviewfix",)),
        (known([FIX], changed=[], reviewed=False), ()),
        (known([FIX], changed=["a.py"], reviewed=True), ()),
        (known([FIX], changed=[], reviewed=True), ()),
    ],
)
def test_routing(state: RepairState, agents: tuple[str, ...]) -> None:
    decision = decide(state)
    assert decision.agents == agents
    assert decision.reasoning
    assert 0 < decision.confidence <= 1


@pytest.mark.parametrize(
    ("task", "beyond"),
    [
        ("review and repair this project", False),
        ("fix the lint errors", False),
        ("", False),
        ("write a new module", True),
        ("repair it and add an endpoint", True),
        ("what is this?", True),
    ],
)
def test_a_task_that_needs_a_model_is_told_apart(task: str, beyond: bool) -> None:
    decision = decide(RepairState(task=task))
    assert ("Without a model" in decision.reasoning) is beyond
    assert (decision.confidence < 1) is beyond


def test_the_plan_has_safe_fixes_first_and_then_what_needs_a_person() -> None:
    findings = [
        Finding("E722", "a.py", 1, "bare except", None),
        Finding("F841", "a.py", 2, "unused", "unsafe"),
        Finding("I001", "b.py", 1, "unsorted", "safe"),
        Finding("F401", "b.py", 1, "unused import", "safe"),
        Finding("F401", "a.py", 1, "unused import", "safe"),
    ]
    plan = make_plan(findings, ["c.py"])
    assert [(item["action"], item["rule"], item["count"]) for item in plan] == [
        ("fix", "F401", 2),
        ("fix", "I001", 1),
        ("format", "format", 1),
        ("person", "E722", 1),
        ("person", "F841", 1),
    ]
    assert plan[0]["files"] == ["a.py", "b.py"]


def test_the_summary_tells_the_whole_truth() -> None:
    state = known(
        [FIX, PERSON],
        changed=["a.py"],
        findings_after=1,
        tests_after=Counts(passed=5, failed=0, errors=0),
        taken_back={"b.py": "it no longer parses"},
        remarks=["1 link(s) lead out of the project and are not followed"],
    )
    assert summarise(state) == (
        "Repaired 1 file(s). ruff: 4 finding(s) before, 1 after. "
        "Tests: 4 passed, 1 failed, 0 error(s) before; 5 passed, 0 failed, 0 error(s) after. "
        "Taken back: b.py (it no longer parses). "
        "Left for a person or a model: E722 × 1 (Do not use bare `except`). "
        "1 link(s) lead out of the project and are not followed."
    )
    unchanged = summarise(known([PERSON]))
    assert unchanged.startswith("Nothing was changed. ruff: 4 finding(s) before, 4 after. Tests: 4 passed")
    untested = known([PERSON], tests=SuiteResult(counts=None, failing=[], problem="the project has no tests"))
    assert "Tests: not run, because the project has no tests." in summarise(untested)


@pytest.mark.parametrize("culprits", [set(), {"7"}, {"0", "15"}, {str(n) for n in range(16)}])
async def test_sifting_keeps_all_but_the_culprits(culprits: set[str]) -> None:
    changes = [str(number) for number in range(16)]
    tried = []

    async def harmless(files: Sequence[str]) -> bool:
        tried.append(list(files))
        return not culprits & set(files)

    kept = await sift(changes, harmless, trials=100)
    assert sorted(kept) == sorted(set(changes) - culprits)
    assert not kept or tried[-1] == kept or sorted(kept) in [sorted(trial) for trial in tried]
    assert len(tried) <= {0: 1, 1: 9, 2: 17, 16: 31}[len(culprits)]


async def test_sifting_without_trials_left_keeps_nothing_untried() -> None:
    async def harmful(files: Sequence[str]) -> bool:
        return "b" not in files

    assert await sift(["a", "b", "c", "d"], harmful, trials=3) == ["a"]
    assert await sift([], harmful, trials=3) == []


def test_worse() -> None:
    before = TestOutcome(5, 1, 0, ("t1",))
    assert not before.is_worse_than(before)
    assert not TestOutcome(6, 0, 0).is_worse_than(before)
    assert TestOutcome(4, 1, 0, ("t1",)).is_worse_than(before)
    assert TestOutcome(5, 1, 1, ("t1", "t2")).is_worse_than(before)
    assert TestOutcome(5, 1, 0, ("t2",)).is_worse_than(before)
    assert TestOutcome(problem="it hangs").is_worse_than(before)
    assert not TestOutcome(problem="it hangs").is_worse_than(TestOutcome(problem="it hung"))


def test_unittest_output() -> None:
    output = "noise\nERROR: test_a (m.T.test_a)\n...\nFAIL: test_b (m.T.test_b)\n\nRan 9 tests in 0.1s\n\n{}\n"
    result = "FAILED (failures=1, errors=1, skipped=2, expected failures=1, unexpected successes=1)"
    assert read_unittest(output.format(result)) == TestOutcome(3, 2, 1, ("test_a (m.T.test_a)", "test_b (m.T.test_b)"))
    assert read_unittest("Ran 1 test in 0.0s\n\nOK\n") == TestOutcome(1, 0, 0)
    assert read_unittest("Traceback (most recent call last)") is None


def test_names_that_are_no_text_can_be_shown() -> None:
    assert shown("caf\udce9\0.py") == "caf\\udce9\\0.py"
