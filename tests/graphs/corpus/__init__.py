"""The cases of the differential suite: each module of this package has `CASES`, and is found by itself."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from tests.graphs.cases import Case
from workers.workflow import Workflow

REFUSED: Final = "refused"
"""The kind of cases that are refused at load; no worker serves them."""


def _gathered() -> list[Case]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    cases = [case for module in modules for case in module.CASES]
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names of cases that stand twice: {', '.join(twice)}")
    return cases


CASES: Final = _gathered()
WORKFLOWS: Final = {case.name: Workflow(graph=case.graph, nodes=case.nodes) for case in CASES if case.kind != REFUSED}
