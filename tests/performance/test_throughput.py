"""The plan's thresholds for throughput and latency, measured on the real program and a real broker."""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import data
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.jobs import Parts
from csv2kafka.kafka.sender import Sender
from csv2kafka.model import Batch
from tests.performance.conftest import LARGE_ROWS
from tests.support.loads import Load
from tests.support.oracle import end_offset


@pytest.mark.performance
@pytest.mark.kafka
class TestThroughput:
    def test_throughput_measurement(self, large_csv: Path, make_load: Callable[..., Load]) -> None:
        load = make_load(large_csv)

        began_s = time.perf_counter()
        receipt = load.run()
        elapsed_s = time.perf_counter() - began_s

        assert receipt.rows_this_run == LARGE_ROWS
        assert end_offset(load.bootstrap, load.topic) == receipt.next_offset
        throughput = receipt.rows_this_run / elapsed_s  # everything counts: lease, take-over, the last checkpoint
        print(f"\n{throughput:,.0f} rows/s; without the start-up {receipt.rows_per_s:,.0f} rows/s")
        assert throughput > 10_000

    def test_latency_measurement(self, tmp_path: Path, make_load: Callable[..., Load]) -> None:
        """From handing a batch to the sender to the broker's acknowledgement, waiting for its turn included."""
        path = tmp_path / "rows.csv"
        data.write(path, 200_000)
        load = make_load(path, config={"max.message.bytes": "4000"})
        latencies_ms = []

        class TimedSender(Sender):
            def send(self, batch: Batch) -> Future[int]:
                sent_s = time.perf_counter()
                answer = super().send(batch)
                answer.add_done_callback(lambda _: latencies_ms.append((time.perf_counter() - sent_s) * 1000))
                return answer

        load.run(Parts(store=SqliteStore(load.checkpoints), sender_factory=TimedSender))

        latencies_ms.sort()
        count = len(latencies_ms)
        p50, p95, p99 = (latencies_ms[int(count * share)] for share in (0.50, 0.95, 0.99))
        print(f"\n{count} sends: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        assert count >= 1000
        assert p50 < 50
        assert p95 < 200
        assert p99 < 500
