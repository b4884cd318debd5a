"""Memory does not grow with the file: in one process over two loads, and as the peak of two processes."""

from __future__ import annotations

import re
import sys
from asyncio import Future
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench import data
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.jobs import Parts
from csv2kafka.kafka.sender import Sender
from csv2kafka.model import Batch
from tests.performance.conftest import LARGE_ROWS
from tests.support.loads import Load
from tests.support.processes import Children

MB = 1024 * 1024
MORE_ROWS = 4 * LARGE_ROWS

# A process's own peak is VmHWM: ru_maxrss of a child begins with what its parent had in memory when it started it.
LOADER = """
import csv2kafka.cli, resource, sys
try:
    csv2kafka.cli.main()
finally:
    if sys.platform == "linux":
        peak_kb = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    else:
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("peak:", peak_kb, file=sys.stderr)
"""


@pytest.mark.performance
@pytest.mark.kafka
class TestMemoryUsage:
    @pytest.fixture
    def larger_csv(self, tmp_path: Path) -> Path:
        path = tmp_path / "larger.csv"
        data.write(path, MORE_ROWS)
        return path

    def test_memory_stays_constant(self, large_csv: Path, larger_csv: Path, make_load: Callable[..., Load]) -> None:
        process = psutil.Process()
        assert make_load(large_csv).run().rows == LARGE_ROWS
        initial_mb = process.memory_info().rss / MB
        seen_mb = []

        class WeighedSender(Sender):
            def send(self, batch: Batch) -> Future[int]:
                seen_mb.append(process.memory_info().rss / MB)
                return super().send(batch)

        load = make_load(larger_csv)
        receipt = load.run(Parts(store=SqliteStore(load.checkpoints), sender_factory=WeighedSender))

        assert receipt.rows == MORE_ROWS
        growth_mb = max(*seen_mb, process.memory_info().rss / MB) - initial_mb
        print(f"\n{initial_mb:.0f} MB after {LARGE_ROWS:,} rows, at most {growth_mb:+.0f} MB in {MORE_ROWS:,} more")
        assert growth_mb < 100

    def test_four_times_the_rows_have_the_same_peak(
        self, large_csv: Path, larger_csv: Path, make_load: Callable[..., Load], children: Children
    ) -> None:
        peaks_mb = []
        for path in (large_csv, larger_csv):
            load = make_load(path)
            checkpoint = f"sqlite:///{load.checkpoints}"
            command = [sys.executable, "-c", LOADER, "run", str(path), load.topic, "-b", load.bootstrap]
            loader = children.start([*command, "--checkpoint", checkpoint, "-q"])
            _, stderr = loader.communicate(timeout=300)
            assert loader.returncode == 0, stderr
            peak_kb = re.search(r"peak: (\d+)", stderr)
            assert peak_kb
            peaks_mb.append(int(peak_kb[1]) / 1024)

        print(f"\npeaks: {peaks_mb[0]:.0f} MB for {LARGE_ROWS:,} rows, {peaks_mb[1]:.0f} MB for {MORE_ROWS:,}")
        assert peaks_mb[1] - peaks_mb[0] < 100
        assert max(peaks_mb) < 350
