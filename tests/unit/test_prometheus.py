"""Prometheus's text of a run, read back by Prometheus's own parser."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from csv2kafka.errors import KINDS
from csv2kafka.metrics.prometheus import Exposition
from csv2kafka.model import Sample

RESUMED = Sample(
    rows=1_500,
    bytes_done=6_000,
    bytes_total=12_000,
    elapsed_s=2.0,
    rows_per_s=250.0,
    eta_s=4.0,
    ack_latency_s=0.02,
    checkpoints=2,
    retries=3,
    bad_rows=60,
    rows_before=1_000,
    bytes_before=4_000,
    bad_rows_before=50,
    ack_latencies_s=(0.0008, 0.02, 0.02, 500.0),
    checkpoint_age_s=0.5,
    checkpoint_lag_rows=120,
    takeovers=2,
    foreign_records=7,
    errors=(("kafka", 1),),
    throttled_s=1.5,
)


def exposition(now_s: list[float] | None = None) -> Exposition:
    clock = now_s or [0.0]
    return Exposition(job_id="nightly", source="orders.csv", topic="orders", clock_s=lambda: clock[0])


def figures(shown: Exposition) -> dict[str, float]:
    """Each line's name, with its labels, and value."""
    found = {}
    for family in text_string_to_metric_families(shown.text().decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_before_the_first_sample_counters_are_zero_and_gauges_unknown() -> None:
    found = figures(exposition())
    info = found.pop("csv2kafka_job_info{job_id=nightly,source=orders.csv,topic=orders}")
    assert info == 1
    assert {name for name in found if name.endswith("_total")} == {
        "csv2kafka_rows_sent_total",
        "csv2kafka_bad_rows_total",
        "csv2kafka_bytes_read_total",
        "csv2kafka_retries_total",
        "csv2kafka_takeovers_total",
        "csv2kafka_throttled_seconds_total",
        "csv2kafka_checkpoints_total",
        "csv2kafka_foreign_records_total",
    }
    assert set(found.values()) == {0}
    assert "csv2kafka_progress_ratio" not in found


def test_counters_count_this_process_and_gauges_the_job() -> None:
    shown = exposition()
    shown.record(RESUMED)
    found = figures(shown)
    assert {name: found[f"csv2kafka_{name}_total"] for name in ("rows_sent", "bad_rows", "bytes_read", "retries")} == {
        "rows_sent": 490,
        "bad_rows": 10,
        "bytes_read": 2_000,
        "retries": 3,
    }
    assert {name: found[f"csv2kafka_{name}_total"] for name in ("takeovers", "checkpoints", "foreign_records")} == {
        "takeovers": 2,
        "checkpoints": 2,
        "foreign_records": 7,
    }
    assert found["csv2kafka_throttled_seconds_total"] == 1.5
    assert (found["csv2kafka_job_rows"], found["csv2kafka_job_bad_rows"]) == (1_500, 60)
    assert (found["csv2kafka_source_rows"], found["csv2kafka_source_bytes"]) == (3_000, 12_000)
    assert (found["csv2kafka_progress_ratio"], found["csv2kafka_rows_per_second"]) == (0.5, 250)
    assert (found["csv2kafka_eta_seconds"], found["csv2kafka_checkpoint_lag_rows"]) == (4, 120)


def test_what_is_not_known_is_left_out() -> None:
    shown = exposition()
    shown.record(Sample(0, 0, 100, 0.1, 0.0, None, None, 0, 0))
    unknown = {"csv2kafka_eta_seconds", "csv2kafka_source_rows", "csv2kafka_checkpoint_age_seconds"}
    assert unknown & figures(shown).keys() == set()


def test_known_rows_count_for_more_than_estimated_ones() -> None:
    shown = exposition()
    shown.record(replace(RESUMED, rows_total=2_900))
    assert figures(shown)["csv2kafka_source_rows"] == 2_900


def test_each_latency_is_one_observation() -> None:
    shown = exposition()
    shown.record(RESUMED)
    shown.record(replace(RESUMED, ack_latencies_s=()))
    shown.record(replace(RESUMED, ack_latencies_s=(0.0025, 0.003)))
    found = figures(shown)
    buckets = {
        math.inf if (bound := name.split("le=")[1].rstrip("}")) == "+Inf" else float(bound): value
        for name, value in found.items()
        if name.startswith("csv2kafka_ack_latency_seconds_bucket")
    }
    assert [buckets[bound] for bound in (0.001, 0.0025, 0.005, 0.01, 0.025, 120.0, math.inf)] == [1, 2, 3, 3, 5, 5, 6]
    assert found["csv2kafka_ack_latency_seconds_count"] == 6
    assert found["csv2kafka_ack_latency_seconds_sum"] == pytest.approx(500.0463)


def test_the_checkpoints_age_goes_on_while_no_samples_come() -> None:
    now_s = [10.0]
    shown = exposition(now_s)
    shown.record(RESUMED)
    now_s[0] += 30
    assert figures(shown)["csv2kafka_checkpoint_age_seconds"] == 30.5


def test_errors_survived_and_the_last_one_by_kind() -> None:
    shown = exposition()
    shown.record(replace(RESUMED, errors=(("kafka", 1), ("checkpoint", 4))))
    shown.count_error("kafka")
    expected = {**dict.fromkeys(KINDS, 0), "kafka": 2, "checkpoint": 4}
    assert {kind: figures(shown)[f"csv2kafka_errors_total{{kind={kind}}}"] for kind in KINDS} == expected
