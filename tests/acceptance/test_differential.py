"""Each graph of the corpus ends on real workers as in plain LangGraph, or says that it cannot: no silent difference."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.cluster import cluster_on
from tests.graphs.cases import Case
from tests.graphs.comparing import Seen, difference, is_refused
from tests.graphs.corpus import CASES, REFUSED
from tests.graphs.effects import EFFECTS
from tests.graphs.running import in_plain_langgraph
from tests.graphs.served import MODULE, Running, Served, rebuilt
from tests.serving import serving
from workers.graph.codec import readable

HASH_SEEDS = (0, 1, 2)

README = Path(__file__).parents[2] / "workers" / "README.md"


@pytest.fixture
async def served(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    effects = tmp_path / "effects"
    effects.mkdir()
    async with cluster_on(database_url, redis_url, tmp_path) as cluster, serving(database_url, redis_url) as gateway:
        for seed in (1, 2):
            surroundings = {"PYTHONHASHSEED": str(seed), EFFECTS: str(effects), "STELLWERK_MAX_SUPERSTEPS": "300"}
            cluster.start_worker(MODULE, **surroundings)
        cluster.checked_modules.clear()  # three processes with other hash seeds rebuild instead
        await cluster.serves(CASES[-1].name)
        yield Served(cluster, gateway.client, effects)


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore:.*Pydantic serializer warnings")  # of LangChain's tools, with a context
async def test_no_graph_ends_otherwise_than_in_plain_langgraph(served: Served) -> None:
    plain = {case.name: (case, await in_plain_langgraph(case)) for case in CASES if case.kind != REFUSED}
    ended = await served.run(plain)
    rebuilds = await asyncio.gather(*(rebuilt(served.cluster.environment, seed) for seed in HASH_SEEDS))
    found = {name: verdict(case, seen, ended[name], rebuilds) for name, (case, seen) in plain.items()}
    print_table([case for case, _ in plain.values()], found)
    assert not {name: why for name, why in found.items() if why not in {"same", "refused", "on purpose"}}


def verdict(case: Case, plain: Seen, ours: Running, rebuilds: Sequence[str]) -> str:
    if (why := difference(case, as_shown(plain), ours.seen)) is not None:
        assert case.on_purpose is None or case.on_purpose in README.read_text()
        return "on purpose" if case.on_purpose else why
    for seed, said in zip(HASH_SEEDS, rebuilds, strict=True):
        for line in said.splitlines():
            if ours.session_id and ours.session_id in line and "different" in line:
                return f"rebuilt with hash seed {seed}: {line}"
    return "refused" if is_refused(case, ours.seen) else "same"


def as_shown(plain: Seen) -> Seen:
    """With the output and the questions as clients get them, in JSON."""
    questions = [asked._replace(question=readable(asked.question)) for asked in plain.questions]
    try:
        return replace(plain, output=readable(plain.output), questions=questions)
    except (TypeError, ValueError, RecursionError) as error:
        return replace(plain, output=f"not readable: {error}", questions=questions)


def print_table(cases: list[Case], found: dict[str, str]) -> None:
    table = Table("case", "kind", "ends")
    for case in cases:
        table.add_row(case.name, case.kind, found[case.name])
    Console(width=200, soft_wrap=True).print(table)
