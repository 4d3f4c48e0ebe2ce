"""Random graphs end as in plain LangGraph, whatever they are made of and in which order their steps complete."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.comparing import compared
from tests.fuzz.description import Case
from tests.fuzz.found import FOUND
from tests.fuzz.generating import cases
from tests.fuzz.switches import OCCURRING

GRAPHS, MANY_GRAPHS = 300, 10_000


@pytest.mark.timeout(3600)
def test_random_graphs_end_as_in_plain_langgraph(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    occurred: Counter[str] = Counter()
    graphs = MANY_GRAPHS if request.config.getoption("long") else GRAPHS

    # Derandomized: the same graphs in each run, so a red test is news.
    @settings(
        max_examples=graphs,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def ends_alike(case: Case) -> None:
        occurred.update(["graphs", *runner.run(compared(case)).keys()])

    with asyncio.Runner() as runner:
        ends_alike()
    with capsys.disabled():
        print(f"\n{occurred['graphs']} random graphs, and in how many of them what occurred:")  # noqa: T201
        print(", ".join(f"{feature} {occurred[feature]}" for feature in OCCURRING))  # noqa: T201
    assert occurred["graphs"] >= graphs
    assert [feature for feature in OCCURRING if occurred[feature] * 20 < occurred["graphs"]] == []


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND.keys())
def test_what_was_found_ends_as_in_plain_langgraph(case: Case) -> None:
    asyncio.run(compared(case))  # a loop of its own: the threads of sync nodes end with it
