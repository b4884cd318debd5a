"""What a fleet's machinery costs, and how it scales on this machine, with the broker out of the way.

    python -m bench.fleet [--rows 4000000] [--files 500] [--gigabytes 1] [--json FILE]

Loading: rows/s of 1 and 2 worker processes that read, encode and compress, and throw the batches away. Overhead: time
per tiny file in a fleet of one worker, and of the same jobs one after the other in one process, on a real broker.
First pass: GB/s at which the cluster finds a huge file's row boundaries. Workers are warm, and files in the page cache.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.table import Table

from bench import data, discard, report
from bench.disk import require_room
from bench.topics import fresh_topic, start_broker
from csv2kafka.fleet import work
from csv2kafka.fleet.cluster import Cluster
from csv2kafka.fleet.dispatch import Dispatcher, Fleet
from csv2kafka.fleet.first_pass import parts_of
from csv2kafka.fleet.listing import find
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.fleet.overview import Overview
from csv2kafka.fleet.placement import Queue
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.settings import RunSettings

_PARTITIONS = 4
_TINY_ROWS = 30
_WORKERS = (1, 2)
_RANGES = 16


class Bench:
    """A topic, and fleets into it: each under a name of its own, so that none is complete already."""

    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        self._kafka = KafkaSettings(bootstrap=bootstrap)
        self._topic = topic
        self._folder = folder

    def settings(self, source: Path) -> RunSettings:
        checkpoints = f"sqlite:///{self._folder / 'checkpoints.db'}"
        return RunSettings(kafka=self._kafka, source=str(source), topic=self._topic, checkpoint_url=checkpoints)

    def manifest(self, source: Path) -> Manifest:
        entries = tuple(Entry(n, file, n % _PARTITIONS) for n, file in enumerate(find(str(source))))
        return Manifest(secrets.token_hex(4), str(source), self._topic, "round-robin", "", entries)

    def fleet_s(self, source: Path, cluster: Cluster) -> float:
        """How long it takes from its first file's handing out to its last one's end."""
        manifest = self.manifest(source)
        queue = Queue(manifest, (), leaders=dict.fromkeys(range(_PARTITIONS), 1))
        fleet = Fleet(manifest, self.settings(source), secrets.token_hex(4), is_local=True)
        began_s = time.perf_counter()
        outcomes = Dispatcher(fleet, cluster, queue, Overview(manifest, {}), sinks=(), stop=threading.Event()).run()
        took_s = time.perf_counter() - began_s
        failed = [outcome.failure for outcome in outcomes.values() if outcome.failure]
        assert not failed, failed
        assert len(outcomes) == len(manifest.entries)
        return took_s

    def one_by_one_s(self, source: Path) -> float:
        """The same jobs in this process."""
        manifest = self.manifest(source)
        settings = self.settings(source)
        began_s = time.perf_counter()
        for entry in manifest.entries:
            one = work.assignment_of(manifest, entry, settings, None, run_id="", quiet=True)
            work.load(one, sinks=(), stop=threading.Event(), notify=lambda _: None)
        return time.perf_counter() - began_s

    def first_pass_s(self, source: Path, cluster: Cluster) -> float:
        (file,) = find(str(source))
        began_s = time.perf_counter()
        parts = parts_of(file, self.settings(source), _RANGES, cluster, threading.Event())
        assert len(parts) == _RANGES
        return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000, help="to load, in all")
    parser.add_argument("--files", type=int, default=500, help="tiny ones")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the file for the first pass")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    busy = report.busy()
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as name, start_broker() as broker:
        folder = Path(name)
        require_room(folder, options.rows + int(options.gigabytes * 1e9) // 66)
        with fresh_topic(broker.bootstrap, _PARTITIONS) as topic:
            found = _measure(Bench(broker.bootstrap, topic, folder), folder, options)
    _show(found, busy)
    if options.json:
        options.json.write_text(json.dumps({"machine": report.machine(), "load_before": busy, **found}) + "\n")


def _measure(bench: Bench, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    warm = _write(folder / "warm", 2 * _PARTITIONS, _TINY_ROWS)
    large = _write(folder / "large", _PARTITIONS, options.rows // _PARTITIONS)
    tiny = _write(folder / "tiny", options.files, _TINY_ROWS)
    huge = folder / "huge.csv"
    huge_bytes = data.write(huge, int(options.gigabytes * 1e9) // 66)
    found: dict[str, Any] = {}
    for workers in _WORKERS:
        with closing(Cluster(None, workers)) as cluster:
            with patch.object(work, "load_entry", discard.load_entry):
                bench.fleet_s(warm, cluster)
                rows = options.rows // _PARTITIONS * _PARTITIONS
                found[f"rows_per_s_{workers}"] = rows / bench.fleet_s(large, cluster)
            bench.first_pass_s(huge, cluster)
            found[f"first_pass_bytes_per_s_{workers}"] = huge_bytes / bench.first_pass_s(huge, cluster)
    with closing(Cluster(None, 1)) as cluster:
        bench.fleet_s(warm, cluster)
        found["s_per_file_in_a_fleet"] = bench.fleet_s(tiny, cluster) / options.files
    bench.one_by_one_s(warm)
    found["s_per_file_one_by_one"] = bench.one_by_one_s(tiny) / options.files
    return found


def _write(folder: Path, files: int, rows: int) -> Path:
    folder.mkdir()
    for number in range(files):
        data.write(folder / f"{number:05}.csv", rows)
    return folder


def _show(found: dict[str, Any], busy: float | None) -> None:
    table = Table(title="A fleet's machinery, without a broker's work")
    for heading in ("what", "1 worker", "2 workers", "factor"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, what, unit in (
        ("rows_per_s", "loading, million rows/s", 1e6),
        ("first_pass_bytes_per_s", "first pass, GB/s", 1e9),
    ):
        one, two = found[f"{name}_1"], found[f"{name}_2"]
        table.add_row(what, f"{one / unit:.2f}", f"{two / unit:.2f}", f"{two / one:.2f}")
    fleet, alone = found["s_per_file_in_a_fleet"], found["s_per_file_one_by_one"]
    table.add_row("a tiny file in a fleet, ms", f"{fleet * 1e3:.1f}", "", "")
    table.add_row("a tiny file, one process, ms", f"{alone * 1e3:.1f}", "", f"{fleet / alone:.2f}")
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
