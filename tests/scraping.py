"""What a scrape says, read with Prometheus' own parser, and what the page says that it says."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.guide import table

NAME = re.compile("`([^`]+)`")
_TYPE = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)
_OF_A_HISTOGRAM = re.compile("_(bucket|sum|count)$")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric's type and its labels, without a histogram's `le`."""

    type: str
    labels: frozenset[str]


class Scrape:
    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the only series with these labels, perhaps among others; None: there is no such series."""
        found = [sample.value for sample in self._with(name, labels)]
        assert len(found) <= 1, f"{len(found)} series of {name} have {labels}"
        return found[0] if found else None

    def total(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self._with(name, labels))

    def _with(self, name: str, labels: Mapping[str, str]) -> list[Sample]:
        return [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    @property
    def metrics(self) -> dict[str, Described]:
        types = dict(_TYPE.findall(self.text))
        labels = defaultdict[str, set[str]](set)
        for sample in self.samples:
            name = sample.name if sample.name in types else _OF_A_HISTOGRAM.sub("", sample.name)
            labels[name].update(sample.labels)
        return {name: Described(type_, frozenset(labels[name] - {"le"})) for name, type_ in types.items()}


async def scrape(client: httpx.AsyncClient, **options: Any) -> Scrape:
    answer = await client.get("/metrics", **options)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


def promised(process: str) -> dict[str, Described]:
    """What the page's table says of the gateway or of a worker."""
    return {
        NAME.findall(metric)[0]: Described(type_, frozenset(NAME.findall(labels)))
        for metric, type_, labels, where, _ in table("metric")
        if where in {process, "both"}
    }
