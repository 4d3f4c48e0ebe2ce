"""Each graph of the corpus ends step by step through the engine as in plain LangGraph, or it is refused."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.graphs.cases import Case
from tests.graphs.comparing import difference
from tests.graphs.corpus import CASES, REFUSED
from tests.graphs.running import in_plain_langgraph, step_by_step
from workers.graph.loading import load_workflows
from workers.workflow import Workflow

# Attempts are the workers' business: what repeats or ends them is compared there.
BY_WORKERS = frozenset({"attempts"})


@pytest.mark.filterwarnings("ignore:.*Pydantic serializer warnings")  # of LangChain's tools, with a context
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.kind not in BY_WORKERS | {REFUSED}], ids=lambda case: case.name
)
async def test_a_graph_ends_as_in_plain_langgraph(case: Case) -> None:
    plain = await in_plain_langgraph(case)
    assert (plain.error is None) == (case.raises is None), f"plain LangGraph raised {plain.error}"
    assert case.raises is None or case.raises in (plain.error or "")
    ours = await step_by_step(case, plain)
    assert difference(case, plain, ours) is None


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == REFUSED], ids=lambda case: case.name)
def test_what_could_not_be_run_alike_is_refused_when_it_is_loaded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("refused_workflows")
    module.WORKFLOWS = {case.name: Workflow(graph=case.graph)}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    loaded = load_workflows([module.__name__])
    assert not loaded.served
    assert case.refuses is not None
    assert re.search(case.refuses, " ".join(refused.reason for refused in loaded.refused))
