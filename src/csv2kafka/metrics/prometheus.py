"""A run's figures in Prometheus's text format. The only file that speaks Prometheus; who serves it is monitor.py.

A sample comes in about once a second and is turned into metrics when somebody asks. Counters count what this process
did, from 0 on, as Prometheus expects of them; what earlier runs of the job did is in gauges. docs/METRICS.md lists
all names.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from csv2kafka.errors import KINDS
from csv2kafka.metrics import progress_ratio, rows_expected
from csv2kafka.model import Sample

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# From a broker on this machine to one that gives a request back after request.timeout.ms and more.
_LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_BEFORE_THE_FIRST = Sample(0, 0, 0, 0.0, 0.0, None, None, 0, 0)

_COUNTERS: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    (
        "rows_sent",
        "Rows whose records the broker acknowledged.",
        lambda s: s.rows - s.bad_rows - (s.rows_before - s.bad_rows_before),
    ),
    ("bad_rows", "Rows set apart because they cannot become records.", lambda s: s.bad_rows - s.bad_rows_before),
    ("bytes_read", "Bytes of the source up to the last acknowledged row.", lambda s: s.bytes_done - s.bytes_before),
    ("retries", "Produce requests sent again.", lambda s: s.retries),
    ("throttled_seconds", "For which a broker's quota held sending back.", lambda s: s.throttled_s),
    ("takeovers", "Take-overs of the partitions, the first one included.", lambda s: s.takeovers),
    ("checkpoints", "Checkpoints saved.", lambda s: s.checkpoints),
    ("foreign_records", "Records of other programs seen between the rows.", lambda s: s.foreign_records),
)
_GAUGES: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    ("job_rows", "Rows of the file that are done, by earlier runs of the job as well.", lambda s: s.rows),
    ("job_bad_rows", "Those of csv2kafka_job_rows that were set apart.", lambda s: s.bad_rows),
    ("source_rows", "Rows of the file, estimated from its bytes unless known.", rows_expected),
    ("source_bytes", "Size of the source.", lambda s: s.bytes_total),
    ("progress_ratio", "How much of the source is done, by bytes, from 0 to 1.", progress_ratio),
    ("rows_per_second", "Mean rate of this process since its first row.", lambda s: s.rows_per_s),
    ("eta_seconds", "Time left at the mean rate of this process.", lambda s: s.eta_s),
    ("checkpoint_lag_rows", "Rows that are acknowledged and in no checkpoint yet.", lambda s: s.checkpoint_lag_rows),
)


class Exposition:
    """Takes samples in one thread, and is asked in any other. A collector in Prometheus's sense."""

    def __init__(self, *, job_id: str, source: str, topic: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        job = {"job_id": job_id, "source": source, "topic": topic}
        self._job = {name: _as_text(value) for name, value in job.items()}
        self._clock_s = clock_s
        self._lock = threading.Lock()  # held for moments only
        self._sample: Sample | None = None
        self._sampled_s = 0.0
        self._latency_counts = [0] * (len(_LATENCY_BOUNDS_S) + 1)
        self._latency_sum_s = 0.0
        self._last_errors: Counter[str] = Counter()
        self._fleet: Callable[[], dict[str, Any]] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def record(self, sample: Sample) -> None:
        with self._lock:
            self._sample, self._sampled_s = sample, self._clock_s()
            for latency_s in sample.ack_latencies_s:
                self._latency_counts[bisect.bisect_left(_LATENCY_BOUNDS_S, latency_s)] += 1
                self._latency_sum_s += latency_s

    def count_error(self, kind: str) -> None:
        """One that ends the run: no sample tells of it."""
        with self._lock:
            self._last_errors[kind] += 1

    def attach(self, details: Callable[[], dict[str, Any]]) -> None:
        """As Monitor.attach."""
        self._fleet = details

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            sample, sampled_s = self._sample, self._sampled_s
            latency = self._latency()
            errors = self._last_errors + Counter(dict(sample.errors if sample else ()))
        yield InfoMetricFamily("csv2kafka_job", "What this process loads, and where to.", self._job)
        for name, meaning, count in _COUNTERS:
            yield CounterMetricFamily(f"csv2kafka_{name}", meaning, count(sample or _BEFORE_THE_FIRST))
        by_kind = CounterMetricFamily("csv2kafka_errors", "Errors, survived or not, by kind.", labels=("kind",))
        for kind in KINDS:
            by_kind.add_metric((kind,), errors[kind])
        yield by_kind
        yield latency
        if sample is not None:
            yield from self._gauges(sample, self._clock_s() - sampled_s)
        if self._fleet is not None:
            yield from _fleet_gauges(self._fleet())

    def _gauges(self, sample: Sample, sample_age_s: float) -> Iterator[Metric]:
        for name, meaning, figure in _GAUGES:
            value = figure(sample)
            if value is not None:
                yield GaugeMetricFamily(f"csv2kafka_{name}", meaning, value)
        if sample.checkpoint_age_s is not None:
            # Goes on while no samples come: a run that stands still must not look fresh.
            age_s = sample.checkpoint_age_s + sample_age_s
            meaning = "Since the store last took the newest checkpoint, or said that it has it."
            yield GaugeMetricFamily("csv2kafka_checkpoint_age_seconds", meaning, age_s)

    def _latency(self) -> Metric:
        buckets, below = [], 0
        for bound_s, count in zip((*_LATENCY_BOUNDS_S, math.inf), self._latency_counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound_s == math.inf else str(bound_s), float(below)))
        meaning = "From sending a Produce request to its acknowledgement."
        return HistogramMetricFamily("csv2kafka_ack_latency_seconds", meaning, buckets, self._latency_sum_s)


def _fleet_gauges(fleet: dict[str, Any]) -> Iterator[Metric]:
    """Files have series of their own only while they are under way: as many as there are workers, not as files."""
    files = GaugeMetricFamily("csv2kafka_fleet_files", "Files, or parts of one, by their state.", labels=("state",))
    for state, count in fleet["counts"].items():
        files.add_metric((state,), count)
    yield files
    for figure, meaning in (("rows", "Rows that are done of a file"), ("progress_ratio", "How much is done of a file")):
        one = GaugeMetricFamily(f"csv2kafka_fleet_file_{figure}", f"{meaning} under way.", labels=("file", "worker"))
        for found in fleet["running"]:
            one.add_metric((_as_text(found["file"]), found["worker"] or ""), found[figure])
        yield one


def _as_text(name: str) -> str:
    """A path may be no text at all, which the format, being UTF-8, has no room for."""
    return name.encode("utf-8", "backslashreplace").decode()
