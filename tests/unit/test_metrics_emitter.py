"""MetricsEmitter against a mocked boto3: the plan's buffering, and that no CloudWatch can hold a job up."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock, patch

import boto3
import moto.cloudwatch.urls  # noqa: F401 - moto loads it at first use otherwise, in the time of a test
import pytest
from botocore.exceptions import ConnectTimeoutError, NoRegionError
from moto import mock_aws

from csv2kafka.errors import ConfigError
from csv2kafka.model import Sample
from processor import MetricsEmitter

HALFWAY = Sample(
    rows=50_000,
    bytes_done=4_000_000,
    bytes_total=8_000_000,
    elapsed_s=10.0,
    rows_per_s=5_000.0,
    eta_s=10.0,
    ack_latency_s=0.012,
    checkpoints=9,
    retries=2,
    bad_rows=30,
    checkpoint_age_s=0.5,
    checkpoint_lag_rows=700,
    takeovers=1,
)


def metric(value: int) -> Any:
    return {"MetricName": "Test", "Value": value, "Unit": "Count"}


def by_name(metrics: list[Any]) -> dict[str, Any]:
    return {one["MetricName"]: one["Value"] for one in metrics}


class TestMetricsEmitter:
    @pytest.fixture
    def mock_cloudwatch(self) -> Iterator[Mock]:
        with patch("boto3.client") as client:
            yield client

    @pytest.fixture
    def put(self, mock_cloudwatch: Mock) -> Mock:
        put: Mock = mock_cloudwatch.return_value.put_metric_data
        return put

    def sent(self, put: Mock) -> list[Any]:
        return [one for call in put.call_args_list for one in call[1]["MetricData"]]

    def test_emit_throughput(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.emit_throughput(45000.5)

        assert len(emitter.metrics_buffer) == 1
        only = emitter.metrics_buffer[0]
        assert only["MetricName"] == "RecordsPerSecond"
        assert only["Value"] == 45000.5
        assert only["Unit"] == "Count/Second"
        assert only["Dimensions"] == [{"Name": "JobId", "Value": "test-job"}]
        assert isinstance(only["Timestamp"], datetime)
        assert datetime.now(UTC) - only["Timestamp"] < timedelta(minutes=1)
        put.assert_not_called()

    def test_emit_progress(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.emit_progress(50000, 200000)

        assert len(emitter.metrics_buffer) == 3
        assert by_name(emitter.metrics_buffer) == {
            "ProgressPercentage": 25.0,
            "RecordsProcessed": 50000,
            "RecordsRemaining": 150000,
        }

    def test_progress_of_an_unknown_total(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.emit_progress(50000, 0)

        assert by_name(emitter.metrics_buffer) == {"RecordsProcessed": 50000}

    def test_emit_error(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.emit_error()

        assert by_name(emitter.metrics_buffer) == {"ErrorCount": 1}

    def test_buffer_flush_on_size(self, mock_cloudwatch: Mock, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for _ in range(19):
            emitter.emit_throughput(1000.0)
        put.assert_not_called()
        emitter.emit_throughput(1000.0)

        put.assert_called_once()
        assert put.call_args[1]["Namespace"] == "TestNamespace"
        assert len(put.call_args[1]["MetricData"]) == 20
        assert len(emitter.metrics_buffer) == 0
        assert mock_cloudwatch.call_args[0] == ("cloudwatch",)

    def test_flush_batches_metrics(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")
        for number in range(45):
            emitter.metrics_buffer.append(metric(number))

        emitter.flush()

        assert [len(call[1]["MetricData"]) for call in put.call_args_list] == [20, 20, 5]
        assert [one["Value"] for one in self.sent(put)] == list(range(45))
        assert len(emitter.metrics_buffer) == 0

    def test_flush_of_nothing_asks_nobody(self, put: Mock) -> None:
        MetricsEmitter("TestNamespace", "test-job").flush()

        put.assert_not_called()

    def test_a_sample_becomes_metrics(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.record(HALFWAY)
        emitter.close()

        assert by_name(self.sent(put)) == {
            "RecordsPerSecond": 5_000.0,
            "RecordsProcessed": 50_000,
            "RecordsRemaining": 50_000,
            "ProgressPercentage": 50.0,
            "ETASeconds": 10.0,
            "KafkaLatency": pytest.approx(12.0),
            "CheckpointCount": 9,
            "RetryCount": 2,
            "TakeoverCount": 1,
            "BadRecords": 30,
            "BytesProcessed": 4_000_000,
            "CheckpointAgeSeconds": 0.5,
            "CheckpointLagRecords": 700,
        }
        units = {one["MetricName"]: one["Unit"] for one in self.sent(put)}
        assert units["KafkaLatency"] == "Milliseconds"
        assert units["ETASeconds"] == "Seconds"

    def test_what_a_sample_does_not_know_is_no_metric(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.record(Sample(0, 0, 0, 0.0, math.nan, None, None, 0, 0))
        emitter.close()

        unknown = {"RecordsPerSecond", "RecordsRemaining", "ProgressPercentage", "ETASeconds", "KafkaLatency"}
        assert {*unknown, "CheckpointAgeSeconds"} & by_name(self.sent(put)).keys() == set()

    def test_known_rows_count_for_more_than_estimated_ones(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.record(Sample(60, 1, 2, 1.0, 60.0, None, None, 0, 0, rows_total=100))
        emitter.close()

        assert by_name(self.sent(put))["RecordsRemaining"] == 40

    def test_counts_are_of_the_time_since_the_last_sample(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for checkpoints, retries in ((1, 0), (3, 5), (3, 6)):
            emitter.record(Sample(1, 1, 2, 1.0, 1.0, None, None, checkpoints, retries))
        emitter.close()

        counts = [(one["MetricName"], one["Value"]) for one in self.sent(put)]
        assert [value for name, value in counts if name == "CheckpointCount"] == [1, 2, 0]
        assert [value for name, value in counts if name == "RetryCount"] == [0, 5, 1]

    def test_errors_survived_are_counted_once(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for errors in ((), (("kafka", 1),), (("kafka", 1),), (("kafka", 2), ("checkpoint", 3))):
            emitter.record(replace(HALFWAY, errors=errors))
        emitter.emit_error()
        emitter.close()

        assert [one["Value"] for one in self.sent(put) if one["MetricName"] == "ErrorCount"] == [1, 4, 1]

    def test_throttling_is_a_metric_where_there_is_some(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for throttled_s in (0.0, 2.5, 4.0):
            emitter.record(replace(HALFWAY, throttled_s=throttled_s))
        emitter.close()

        assert [one["Value"] for one in self.sent(put) if one["MetricName"] == "ThrottledSeconds"] == [2.5, 4.0]

    def test_samples_are_sent_before_the_end(self, put: Mock) -> None:
        called = threading.Event()
        put.side_effect = lambda **request: called.set()
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for _ in range(3):
            emitter.record(HALFWAY)

        assert called.wait(10)
        emitter.close()
        assert [one["MetricName"] for one in self.sent(put)].count("RecordsProcessed") == 3

    def test_a_cloudwatch_that_hangs_holds_nobody_up(self, put: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("csv2kafka.metrics.cloudwatch._CLOSE_DEADLINE_S", 0.05)
        called, answer = threading.Event(), threading.Event()

        def hang(**request: Any) -> None:
            called.set()
            answer.wait(10)

        put.side_effect = hang
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for _ in range(3):
            emitter.record(HALFWAY)
        assert called.wait(10)
        for _ in range(1_000):
            emitter.record(HALFWAY)
        emitter.close()
        emitter.record(HALFWAY)

        assert put.call_count == 1
        assert len(emitter.metrics_buffer) == 1_000
        answer.set()

    @pytest.mark.parametrize("failure", [ConnectTimeoutError(endpoint_url="https://cw"), RuntimeError("anything")])
    def test_a_cloudwatch_that_is_down_raises_nothing_and_loses_only_the_oldest(
        self, put: Mock, failure: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        now_s = 100.0
        put.side_effect = failure
        emitter = MetricsEmitter("TestNamespace", "test-job", clock=lambda: now_s)

        with caplog.at_level(logging.WARNING):
            for number in range(1_500):
                emitter.emit_throughput(float(number))

        assert put.call_count == 1, "asked again although it had just failed"
        assert len(caplog.records) == 1
        assert [one["Value"] for one in emitter.metrics_buffer] == list(range(500, 1_500))

        now_s += 60
        put.side_effect = None
        put.reset_mock()
        emitter.emit_throughput(1_500.0)
        assert [one["Value"] for one in self.sent(put)] == list(range(501, 1_501))
        assert len(emitter.metrics_buffer) == 0

    def test_close_comes_back_though_cloudwatch_is_down(self, put: Mock) -> None:
        put.side_effect = ConnectTimeoutError(endpoint_url="https://cw")
        emitter = MetricsEmitter("TestNamespace", "test-job")

        emitter.record(HALFWAY)
        emitter.close()

        put.assert_called_once()

    def test_a_value_that_cloudwatch_refuses_does_not_spoil_its_batch(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "test-job")

        for value in (math.nan, math.inf, -math.inf, 5.0):
            emitter.emit_throughput(value)

        assert by_name(emitter.metrics_buffer) == {"RecordsPerSecond": 5.0}
        assert len(emitter.metrics_buffer) == 1

    def test_a_job_id_becomes_a_dimension_that_cloudwatch_takes(self, put: Mock) -> None:
        emitter = MetricsEmitter("TestNamespace", "größe-" + "x" * 2_000)

        emitter.emit_throughput(1.0)

        value = emitter.metrics_buffer[0]["Dimensions"][0]["Value"]
        assert value.startswith("gr\\xf6\\xdfe-x")
        assert len(value) == 1_024

    def test_without_a_region_it_says_so_before_the_job_begins(self, mock_cloudwatch: Mock) -> None:
        mock_cloudwatch.side_effect = NoRegionError()

        with pytest.raises(ConfigError) as refused:
            MetricsEmitter("TestNamespace", "test-job")

        assert "AWS_DEFAULT_REGION" in refused.value.hint


@mock_aws
def test_metrics_arrive() -> None:
    emitter = MetricsEmitter("csv2kafka", "test-job")
    emitter.record(HALFWAY)
    emitter.close()

    found = boto3.client("cloudwatch").list_metrics(Namespace="csv2kafka")["Metrics"]

    assert {one["MetricName"] for one in found} >= {"RecordsPerSecond", "ProgressPercentage", "KafkaLatency"}
    assert all(one["Dimensions"] == [{"Name": "JobId", "Value": "test-job"}] for one in found)
