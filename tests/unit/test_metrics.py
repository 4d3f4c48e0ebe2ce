"""What a process counts, how it is written, and the alerts on the page."""

from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from pydantic import SecretStr

from app import metrics
from tests.guide import GUIDE
from tests.scraping import Scrape, promised

ODD = ['a"b', "a\\b", "a\nb", "\\n", "a\rb\u2028c\u0085d", "🚂 Stellwerk", '\ufeff\u202e{x="y"} 1', "", " spaces ", "#"]


def counted() -> Scrape:
    return Scrape(generate_latest(metrics.REGISTRY).decode())


@pytest.mark.parametrize("agent", ODD)
def test_odd_names_parse_back(agent: str) -> None:
    metrics.leases_lost.labels(agent).inc()
    assert counted().value("stellwerk_leases_lost_total", agent=agent) == 1
    encode, media_type = metrics.encoder_for("application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics(encode(metrics.REGISTRY).decode())  # type: ignore[no-untyped-call]  # the library has no types here
    (samples,) = [family.samples for family in families if family.name == "stellwerk_leases_lost"]
    assert agent in {sample.labels["agent"] for sample in samples}


@pytest.mark.parametrize(
    "accept", [None, "", "*/*", "text/html", "application/openmetrics-text; version=abc", "text/plain; version=x.y"]
)
def test_every_client_gets_a_format_that_it_can_read(accept: str | None) -> None:
    encode, media_type = metrics.encoder_for(accept)
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"_created" not in encode(metrics.REGISTRY)


def test_what_was_never_counted_is_not_shown() -> None:
    registry = metrics.Registry()
    counter = Counter("stellwerk_test_total", "for this test", ("kind",), registry=registry)
    assert generate_latest(registry) == b""
    counter.labels("a").inc(0)
    assert Scrape(generate_latest(registry).decode()).value("stellwerk_test_total", kind="a") == 0


def test_calls_of_models_are_added_up() -> None:
    def called(usage: dict[str, Any], cost: float | None, *, failed: bool = False) -> None:
        metrics.model_called("openai", "gpt", "added up", usage=usage, cost=cost, failed=failed)

    called({"input_tokens": 10, "output_tokens": 3}, 0.25)
    called({"input_tokens": 5, "output_tokens": 0}, None)
    called({}, None, failed=True)  # nothing was answered: there is no cost to be known
    called({"input_tokens": "many", "output_tokens": -1}, None, failed=True)
    found, caller = counted(), {"provider": "openai", "model": "gpt", "agent": "added up"}
    assert found.value("stellwerk_model_calls_total", **caller, outcome="answered") == 2
    assert found.value("stellwerk_model_calls_total", **caller, outcome="failed") == 2
    assert found.value("stellwerk_model_tokens_total", **caller, direction="input") == 15
    assert found.value("stellwerk_model_tokens_total", **caller, direction="output") == 3
    assert found.value("stellwerk_model_cost_dollars_total", **caller) == 0.25
    assert found.value("stellwerk_model_calls_of_unknown_cost_total", **caller) == 2


def test_calls_of_tools_are_counted() -> None:
    for failed in (False, False, True):
        metrics.tool_called("search", "counted", failed=failed)
    found = counted()
    assert found.value("stellwerk_tool_calls_total", tool="search", agent="counted", outcome="answered") == 2
    assert found.value("stellwerk_tool_calls_total", tool="search", agent="counted", outcome="failed") == 1


@pytest.mark.parametrize(("given", "token", "opens"), [
    ("s3cret", "s3cret", True), ("s3cre", "s3cret", False), ("", "s3cret", False), ("\udce9", "s3cret", False),
])  # fmt: skip
def test_the_token_opens_and_nothing_else(given: str, token: str, opens: bool) -> None:
    assert metrics.is_token(given, SecretStr(token)) is opens
    assert not metrics.is_token(given, None)


def block_with(key: str) -> list[dict[str, Any]]:
    (found,) = [content[key] for block in GUIDE.blocks("yaml") if key in (content := yaml.safe_load(block.text))]
    assert isinstance(found, list)
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = block_with("groups")
    assert group.keys() == {"name", "rules"} and isinstance(group["rules"], list)
    return group["rules"]


def test_there_are_five_alerts_in_the_shape_of_rules() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) == 5
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["alert"].startswith("Stellwerk") and rule["annotations"].keys() == {"summary"}
        if "for" in rule:
            promql_parser.parse_duration(rule["for"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_is_promql_over_metrics_of_the_table(rule: dict[str, Any]) -> None:
    selected = list[promql_parser.VectorSelector]()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            selected.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            selected.append(node)

    promql_parser.walk(promql_parser.parse(rule["expr"]), visit)
    assert selected
    known = promised("gateway") | promised("worker")
    for selector in selected:
        assert selector.name is not None
        assert selector.name in known or selector.name.removesuffix("_bucket") in known, selector.name


def test_the_scrape_config_has_what_prometheus_wants() -> None:
    (job,) = block_with("scrape_configs")
    assert job["authorization"].keys() == {"credentials_file"}
    assert [(*found["names"], found["type"]) for found in job["dns_sd_configs"]] == [("gateway", "A"), ("worker", "A")]
