"""What pytest's XML report says. Whatever ran may have written it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from xml.etree import ElementTree

from workers.reading.files import NotRead, Tree, reason, shown_name
from workers.reading.forked import Died, each

MAX_BYTES = 64 * 1024 * 1024
CHUNK = 64 * 1024
MAX_TESTS = 200_000
MAX_NAME = 200
"""Characters; a parametrised test's name can be a whole document."""
SECONDS = 60.0

Verdict = Literal["passed", "failed", "errors", "skipped"]
VERDICTS: tuple[Verdict, ...] = ("skipped", "passed", "failed", "errors")
"""The worst last."""
BY_TAG: Mapping[str, Verdict] = {"error": "errors", "failure": "failed", "skipped": "skipped"}


def answer(request: Mapping[str, Any]) -> Iterator[Any]:
    """Counts of the tests and the names of up to `names` that fail, or the problem because of which there are none."""
    tree, names = Tree(request["directory"]), request["names"]
    _, outcome = next(each([request["report"]], lambda report: read(tree, report, names), seconds=SECONDS))
    yield {"problem": f"their report cannot be read: {outcome}"} if isinstance(outcome, Died) else outcome


def read(tree: Tree, report: str, names: int) -> dict[str, Any]:
    """A test whose teardown fails stands there twice; its worst outcome counts."""
    try:
        outcomes = _outcomes(tree.open(report))
    except (NotRead, ElementTree.ParseError, ValueError, LookupError) as error:
        return {"problem": f"their report cannot be read: {shown_name(str(error)[:MAX_NAME])}"}
    except OSError as error:
        return {"problem": f"their report cannot be read: {reason(error)}"}
    except (MemoryError, RecursionError):
        return {"problem": "their report cannot be read: it takes too much memory"}
    failing = sorted(name for name, outcome in outcomes.items() if outcome in {"failed", "errors"})
    counts: dict[str, int] = {
        verdict: sum(outcome == verdict for outcome in outcomes.values()) for verdict in VERDICTS[1:]
    }
    return {**counts, "failing": failing[:names]}


def _outcomes(descriptor: int) -> dict[str, Verdict]:
    outcomes: dict[str, Verdict] = {}
    # expat bounds the expansion of entities
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(("end",))
    size = 0
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            if size > MAX_BYTES:
                raise NotRead(f"it has more than {MAX_BYTES:,} bytes")
            parser.feed(chunk)
            _take_ended(parser, outcomes)
        parser.close()
        _take_ended(parser, outcomes)
    return outcomes


def _take_ended(parser: "ElementTree.XMLPullParser[Any]", outcomes: dict[str, Verdict]) -> None:
    for ended in parser.read_events():
        element = ended[-1]
        if isinstance(element, ElementTree.Element) and element.tag == "testcase":
            _take(element, outcomes)
            element.clear()  # what tests printed is not kept


def _take(case: ElementTree.Element, outcomes: dict[str, Verdict]) -> None:
    name = shown_name("::".join(filter(None, (case.get("classname"), case.get("name"))))[:MAX_NAME])
    verdict = _worst(BY_TAG.get(child.tag, "passed") for child in case if child.tag in BY_TAG)
    outcomes[name] = max(verdict, outcomes.get(name, "skipped"), key=VERDICTS.index)
    if len(outcomes) > MAX_TESTS:
        raise NotRead(f"it names more than {MAX_TESTS:,} tests")


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=VERDICTS.index, default="passed")
