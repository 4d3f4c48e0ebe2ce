"""What a run of a project's tests gave, read from pytest's report or unittest's output."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from workers.reading.files import shown_name
from workers.reading.process import ask

MAX_NAMED = 200
"""Failing tests that are remembered by name."""
MAX_NAME = 200
"""Characters; a parametrised test's name can be a whole document."""

UNITTEST_RAN = re.compile(r"^Ran (\d{1,9}) tests? in ", re.MULTILINE)
UNITTEST_RESULT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
UNITTEST_COUNT = re.compile(r"(?:^|, )([a-z ]{1,30})=(\d{1,9})(?=, |$)")
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


async def read_report(directory: Path, report: str) -> TestOutcome:
    """pytest's XML report, by its path in the directory that the tests could write in: no link leads out of it."""
    (said,) = await ask("report", {"directory": str(directory), "report": report, "names": MAX_NAMED})
    if "problem" in said:
        return TestOutcome(problem=said["problem"])
    return TestOutcome(said["passed"], said["failed"], said["errors"], tuple(said["failing"]))


def read_unittest(output: str) -> TestOutcome | None:
    """None if it is not what `python -m unittest` prints at its end."""
    ran, result = UNITTEST_RAN.search(output), UNITTEST_RESULT.search(output)
    if not ran or not result:
        return None
    counts = Counter({name: int(number) for name, number in UNITTEST_COUNT.findall(result[1] or "")})
    failed = counts["failures"] + counts["unexpected successes"]
    not_passed = failed + counts["errors"] + counts["skipped"] + counts["expected failures"]
    passed = max(0, int(ran[1]) - not_passed)  # an error in setUpClass is none of the tests that ran
    failing = sorted({shown_name(name[:MAX_NAME]) for name in UNITTEST_FAILING.findall(output)})
    return TestOutcome(passed, failed, counts["errors"], tuple(failing[:MAX_NAMED]))
