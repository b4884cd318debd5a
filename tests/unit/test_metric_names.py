"""One set of names: what the program exports, what docs/METRICS.md lists, what the dashboards show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client.parser import text_string_to_metric_families

from csv2kafka.errors import KINDS
from csv2kafka.metrics.cloudwatch import MetricsEmitter
from csv2kafka.metrics.prometheus import Exposition
from tests.unit.test_prometheus import RESUMED

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/METRICS.md").read_text()
GRAFANA = json.loads((ROOT / "deploy/dashboards/grafana.json").read_text())
CLOUDWATCH = json.loads((ROOT / "deploy/dashboards/cloudwatch.json").read_text())

# Exported, and on purpose on no panel. Their buckets and labels are.
NOT_IN_GRAFANA: set[str] = set()
NOT_IN_CLOUDWATCH: set[str] = set()


@pytest.fixture(scope="module")
def prometheus() -> dict[str, str]:
    """Name and type of every metric of a run that knows all its figures."""
    shown = Exposition(job_id="job", source="source", topic="topic")
    shown.record(RESUMED)
    shown.attach(
        lambda: {"counts": {"running": 1}, "running": [{"file": "f", "worker": "w", "rows": 1, "progress_ratio": 1}]}
    )
    families = list(text_string_to_metric_families(shown.text().decode()))
    return {f"{one.name}_total" if one.type == "counter" else one.name: one.type for one in families}


@pytest.fixture(scope="module")
def cloudwatch() -> dict[str, str]:
    """Name and unit of every metric of a run that knows all its figures."""
    with patch("boto3.client") as client:
        emitter = MetricsEmitter("namespace", "job")
        emitter.record(replace(RESUMED, errors=()))
        emitter.emit_error()
        emitter.close()
        calls = client.return_value.put_metric_data.call_args_list
    return {one["MetricName"]: one["Unit"] for call in calls for one in call[1]["MetricData"]}


def rows_of_table(heading: str) -> dict[str, str]:
    """First and second column of the table below a heading, of the rows that begin with a name in code."""
    section = re.split(r"^#+ ", DOCUMENT.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([\w/]+) \|", section, re.MULTILINE))


def queries() -> Iterator[str]:
    for variable in GRAFANA["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    for panel in GRAFANA["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def names_in(query: str) -> set[str]:
    """Metrics of ours in PromQL: a histogram's series count for it."""
    outside_labels = re.sub(r"\{[^}]*\}", "", query)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bcsv2kafka_\w+", outside_labels)}


def shown_by_cloudwatch() -> Iterator[tuple[Any, ...]]:
    for widget in CLOUDWATCH["widgets"]:
        for namespace, name, dimension, value, _ in widget["properties"]["metrics"]:
            yield namespace, name, dimension, value


def test_the_document_lists_prometheus_names_and_types(prometheus: dict[str, str]) -> None:
    assert rows_of_table("Prometheus") == prometheus


def test_the_document_lists_cloudwatch_names_and_units(cloudwatch: dict[str, str]) -> None:
    assert rows_of_table("CloudWatch") == cloudwatch


def test_the_document_lists_kinds_of_errors() -> None:
    paragraph = DOCUMENT.split("Kinds of errors:")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) == set(KINDS)


def test_the_plans_names_are_there(prometheus: dict[str, str], cloudwatch: dict[str, str]) -> None:
    assert prometheus.keys() >= {
        "csv2kafka_rows_sent_total",
        "csv2kafka_bytes_read_total",
        "csv2kafka_checkpoint_age_seconds",
        "csv2kafka_errors_total",
    }
    assert cloudwatch.keys() >= {
        "RecordsPerSecond",
        "ProgressPercentage",
        "RecordsProcessed",
        "RecordsRemaining",
        "KafkaLatency",
        "ErrorCount",
        "RetryCount",
        "ETASeconds",
        "CheckpointCount",
    }


def test_grafana_shows_all_that_is_exported_and_nothing_else(prometheus: dict[str, str]) -> None:
    assert set().union(*map(names_in, queries())) == prometheus.keys() - NOT_IN_GRAFANA


@pytest.mark.parametrize("query", list(queries()))
def test_grafana_asks_as_each_type_wants_to_be_asked(query: str, prometheus: dict[str, str]) -> None:
    assert query.count("(") == query.count(")")
    for name in names_in(query):
        is_counted = prometheus[name] in ("counter", "histogram")
        assert bool(re.search(rf"\b(rate|increase)\({name}(_bucket)?\{{[^}}]*\}}\[", query)) == is_counted
    for selector in re.findall(r"\{([^}]*)\}", query):
        assert re.fullmatch(r'(instance=~"\$instance"|job_id=~"\$job")', selector)


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    places = [panel["gridPos"] for panel in GRAFANA["panels"]]
    places += [
        {"x": one["x"], "y": one["y"] + 10_000, "w": one["width"], "h": one["height"]} for one in CLOUDWATCH["widgets"]
    ]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    numbers = [panel["id"] for panel in GRAFANA["panels"]]
    assert len(numbers) == len(set(numbers))


def test_cloudwatch_shows_all_that_is_exported_and_nothing_else(cloudwatch: dict[str, str]) -> None:
    shown = list(shown_by_cloudwatch())
    assert {name for _, name, _, _ in shown} == cloudwatch.keys() - NOT_IN_CLOUDWATCH
    assert {(namespace, dimension) for namespace, _, dimension, _ in shown} == {("CSVToKafka", "JobId")}
    assert {value for *_, value in shown} == {CLOUDWATCH["variables"][0]["defaultValue"]}


def test_cloudwatch_sums_up_counts_and_nothing_else(cloudwatch: dict[str, str]) -> None:
    for widget in CLOUDWATCH["widgets"]:
        for _, name, _, _, options in widget["properties"]["metrics"]:
            is_sum = options.get("stat", widget["properties"]["stat"]) == "Sum"
            assert is_sum == name.endswith("Count"), name
