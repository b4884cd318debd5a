"""Metrics to CloudWatch, in the background: a CloudWatch that is slow or away costs metrics, never the job.

The only file that speaks CloudWatch. What a job's figures mean is decided in model.Sample, not here; what they are
called, for people, is in docs/METRICS.md.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from csv2kafka.errors import ConfigError, SourceUnavailable
from csv2kafka.metrics import rows_expected
from csv2kafka.model import Sample

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDatumTypeDef

_logger = logging.getLogger(__name__)

_BATCH_METRICS = 20  # as many as one call sends, and as many as wait before one is made
_BUFFER_METRICS = 1_000  # about a minute of samples; then the oldest go
_RETRY_AFTER_S = 30.0  # after a call that failed
_CLOSE_DEADLINE_S = 4.0  # a job told to stop has 10 s for everything
_DIMENSION_CHARACTERS = 1_024

_READS = SourceUnavailable.kind


class MetricsEmitter:
    """Buffers metrics of one job (dimension JobId) and sends them 20 at a time.

    The `emit_` calls and `flush` send in the caller's thread; `record` and `close` in a thread of their own.
    RetryCount, CheckpointCount, TakeoverCount and ErrorCount are counts since the last sample (sum them), all others
    the state now.
    Endpoint, credentials and, unless given, region and profile come from AWS's usual places.
    """

    def __init__(
        self,
        namespace: str,
        job_id: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=3)
        try:
            aws_session = boto3 if profile is None else boto3.Session(profile_name=profile)
            self._client = aws_session.client("cloudwatch", region_name=region, config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"CloudWatch cannot be reached: {error}",
                hint="set AWS_DEFAULT_REGION (and AWS_PROFILE, AWS_ENDPOINT_URL if you use them) or turn metrics off",
            ) from error
        self._namespace = namespace
        ascii_id = job_id.encode("ascii", "backslashreplace").decode("ascii")  # CloudWatch takes nothing else
        self._dimensions: list[DimensionTypeDef] = [{"Name": "JobId", "Value": ascii_id[:_DIMENSION_CHARACTERS]}]
        self.metrics_buffer: list[MetricDatumTypeDef] = []
        self._buffer_lock = threading.Lock()  # held for moments only
        self._flush_lock = threading.Lock()  # held while CloudWatch answers
        self._clock = clock
        self._retry_at_s = -math.inf
        self._last_counts: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closing = False

    # The plan's calls

    def emit_throughput(self, records_per_second: float) -> None:
        self._add("RecordsPerSecond", records_per_second, "Count/Second")
        self._flush_when_due()

    def emit_progress(self, processed: int, total: int) -> None:
        """Rows done of `total`; of an unknown total (0) only the rows done are a metric."""
        self._add("RecordsProcessed", processed, "Count")
        if total > 0:
            self._add("ProgressPercentage", 100.0 * processed / total, "Percent")
            self._add("RecordsRemaining", max(0, total - processed), "Count")
        self._flush_when_due()

    def emit_error(self, count: int = 1) -> None:
        self._add("ErrorCount", count, "Count")
        self._flush_when_due()

    def flush(self) -> None:
        """Send all that is buffered. What CloudWatch does not take stays buffered; nothing is raised."""
        with self._flush_lock:
            while batch := self._take_batch():
                if not self._send(batch):
                    self._put_back(batch)
                    return

    # The sink

    def record(self, sample: Sample) -> None:
        if self._closing:
            return
        for name, value, unit in self._metrics_of(sample):
            self._add(name, value, unit)
        self._start_thread()
        if len(self.metrics_buffer) >= _BATCH_METRICS:
            self._wake.set()

    def close(self) -> None:
        """Send what is buffered, for a few seconds at most; what is not sent by then is lost."""
        self._closing = True
        thread = self._start_thread()
        self._wake.set()
        thread.join(_CLOSE_DEADLINE_S)

    def _start_thread(self) -> threading.Thread:
        if self._thread is None:
            # A daemon: an unanswered call must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="cloudwatch", daemon=True)
            self._thread.start()
        return self._thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            if not self._closing:
                self._flush_when_due()
        self.flush()

    def _metrics_of(self, sample: Sample) -> list[tuple[str, float, StandardUnitType]]:
        metrics: list[tuple[str, float, StandardUnitType]] = [
            ("RecordsPerSecond", sample.rows_per_s, "Count/Second"),
            ("RecordsProcessed", sample.rows, "Count"),
            ("BadRecords", sample.bad_rows, "Count"),
            ("BytesProcessed", sample.bytes_done, "Bytes"),
            ("CheckpointLagRecords", sample.checkpoint_lag_rows, "Count"),
        ]
        expected = rows_expected(sample)
        if expected is not None:
            metrics.append(("RecordsRemaining", max(0, expected - sample.rows), "Count"))
        if sample.bytes_total > 0:
            metrics.append(("ProgressPercentage", 100.0 * sample.bytes_done / sample.bytes_total, "Percent"))
        if sample.eta_s is not None:
            metrics.append(("ETASeconds", sample.eta_s, "Seconds"))
        if sample.ack_latency_s is not None:
            metrics.append(("KafkaLatency", sample.ack_latency_s * 1_000, "Milliseconds"))
        if sample.checkpoint_age_s is not None:
            metrics.append(("CheckpointAgeSeconds", sample.checkpoint_age_s, "Seconds"))
        if sample.throttled_s > 0:  # most clusters have no quota, and each metric has its price
            metrics.append(("ThrottledSeconds", sample.throttled_s, "Seconds"))
        counts = {
            "CheckpointCount": sample.checkpoints,
            # A read of S3 made again is everyday: no error, for nobody should be woken by it.
            "RetryCount": sample.retries + sum(times for kind, times in sample.errors if kind == _READS),
            "TakeoverCount": sample.takeovers,
            "ErrorCount": sum(times for kind, times in sample.errors if kind != _READS),
        }
        new = {name: count - self._last_counts.get(name, 0) for name, count in counts.items()}
        self._last_counts = counts
        # Errors are told when there are any: the last one, which ends the job, comes by emit_error.
        return metrics + [(name, count, "Count") for name, count in new.items() if count or name != "ErrorCount"]

    def _add(self, name: str, value: float, unit: StandardUnitType) -> None:
        if not math.isfinite(value):
            return  # CloudWatch would refuse its whole batch
        metric: MetricDatumTypeDef = {
            "MetricName": name,
            "Dimensions": self._dimensions,
            "Timestamp": datetime.now(UTC),
            "Value": value,
            "Unit": unit,
        }
        with self._buffer_lock:
            self.metrics_buffer.append(metric)
            del self.metrics_buffer[:-_BUFFER_METRICS]

    def _flush_when_due(self) -> None:
        if len(self.metrics_buffer) >= _BATCH_METRICS and self._clock() >= self._retry_at_s:
            self.flush()

    def _take_batch(self) -> list[MetricDatumTypeDef]:
        with self._buffer_lock:
            batch = self.metrics_buffer[:_BATCH_METRICS]
            del self.metrics_buffer[:_BATCH_METRICS]
        return batch

    def _put_back(self, batch: list[MetricDatumTypeDef]) -> None:
        with self._buffer_lock:
            self.metrics_buffer[:0] = batch
            del self.metrics_buffer[:-_BUFFER_METRICS]

    def _send(self, batch: list[MetricDatumTypeDef]) -> bool:
        try:
            self._client.put_metric_data(Namespace=self._namespace, MetricData=batch)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, metrics do not fail a job
            self._retry_at_s = self._clock() + _RETRY_AFTER_S
            _logger.warning("CloudWatch took no metrics, next try in %.0f s: %s", _RETRY_AFTER_S, error)
            return False
        return True
