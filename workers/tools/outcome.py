"""What a run of a project's tests gave, read from pytest's report or unittest's output."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict
from xml.etree import ElementTree

MAX_NAMED = 200
"""Failing tests that are remembered by name."""
MAX_NAME = 200
"""Characters; a parametrised test's name can be a whole document."""

Verdict = Literal["passed", "failed", "errors", "skipped"]

UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_RESULT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
UNITTEST_FAILING = re.compile(r"^(?:FAIL|ERROR|UNEXPECTED SUCCESS): (.+)$", re.MULTILINE)


class Counts(TypedDict):
    passed: int
    failed: int
    errors: int


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """Counts of tests, or the `problem` because of which there are none."""

    __test__ = False  # its name means something to pytest

    passed: int = 0
    failed: int = 0
    errors: int = 0
    failing: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def counts(self) -> Counts | None:
        if self.problem is not None:
            return None
        return Counts(passed=self.passed, failed=self.failed, errors=self.errors)

    def is_worse_than(self, before: "TestOutcome") -> bool:
        if self.problem is not None or before.problem is not None:
            return before.problem is None
        return (
            self.passed < before.passed
            or self.failed + self.errors > before.failed + before.errors
            or not set(self.failing) <= set(before.failing)
        )


def read_junit(report: Path) -> TestOutcome:
    """pytest's XML report. A test whose teardown fails stands there twice; its worst outcome counts."""
    root = ElementTree.parse(report).getroot()  # noqa: S314 - expat bounds the expansion of entities
    outcomes: dict[str, Verdict] = {}
    for case in root.iter("testcase"):
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))[:MAX_NAME]
        outcomes[name] = max(_verdict(child.tag for child in case), outcomes.get(name, "skipped"), key=_rank)
    return _count(outcomes)


def _verdict(tags: Iterable[str]) -> Verdict:
    by_tag: Mapping[str, Verdict] = {"error": "errors", "failure": "failed", "skipped": "skipped"}
    return max((by_tag[tag] for tag in tags if tag in by_tag), key=_rank, default="passed")


def _rank(outcome: Verdict) -> int:
    return ("skipped", "passed", "failed", "errors").index(outcome)


def _count(outcomes: Mapping[str, Verdict]) -> TestOutcome:
    counts = Counter(outcomes.values())
    failing = sorted(name for name, outcome in outcomes.items() if outcome in {"failed", "errors"})
    return TestOutcome(counts["passed"], counts["failed"], counts["errors"], tuple(failing[:MAX_NAMED]))


def read_unittest(output: str) -> TestOutcome | None:
    """None if it is not what `python -m unittest` prints at its end."""
    ran, result = UNITTEST_RAN.search(output), UNITTEST_RESULT.search(output)
    if not ran or not result:
        return None
    counts = Counter({name: int(number) for name, _, number in (item.partition("=") for item in _split(result[1]))})
    failed = counts["failures"] + counts["unexpected successes"]
    not_passed = failed + counts["errors"] + counts["skipped"] + counts["expected failures"]
    passed = max(0, int(ran[1]) - not_passed)  # an error in setUpClass is none of the tests that ran
    failing = sorted({name[:MAX_NAME] for name in UNITTEST_FAILING.findall(output)})
    return TestOutcome(passed, failed, counts["errors"], tuple(failing[:MAX_NAMED]))


def _split(text: str | None) -> list[str]:
    return text.split(", ") if text else []
