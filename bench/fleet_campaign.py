"""Two fleets through kills: many files of mixed sizes, and one huge file in parts; then all is read back and compared.

    ./dev fleet [--files 500] [--gigabytes 5] [--kills 24] [--seed S]

Each fleet runs on two worker processes of this machine; at random shares of its rows, one of them is killed (SIGKILL).
The topics are read with librdkafka, and every value is compared, in order, with what Python's csv and json make of the
file. What was written is deleted at the end, also after a failure: the seed makes the same files and goals again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench import data
from bench.disk import require_room
from bench.readback import Comparison, compare
from bench.topics import fresh_topic, start_broker
from csv2kafka.devbroker import die_with_parent
from tests.support.fleet_load import workers_of
from tests.support.kills import EndOffset
from tests.support.oracle import iter_messages

PARTITIONS = 8
_WORKERS = 2
_ROW_BYTES = 66
_SMALLEST_BYTES, _LARGEST_BYTES = 2_000, 20_000_000
_HUGE_BLOCK = 1_000_000  # the huge file's first block: its rows are nobody else's
_PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Some of a generated file's rows, in order: what an entry of a fleet loads."""

    first_block: int
    first_row: int
    end_row: int

    def values(self) -> Iterator[bytes]:
        return data.values(self.first_row, self.end_row, first_block=self.first_block)

    def sample(self) -> bytes:
        return next(self.values())


@dataclass(slots=True)
class Totals:
    """Of both fleets."""

    files: int = 0
    rows: int = 0
    kills: int = 0
    missing: int = 0
    surplus: int = 0
    unordered: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.surplus or self.unordered)


@dataclass(frozen=True, slots=True)
class Command:
    """A fleet that is to be loaded: `rows` in all, and the goals among them at which a worker dies."""

    source: Path
    topic: str
    bootstrap: str
    options: tuple[str, ...]
    rows: int
    kills: int
    plants: bool


def write_files(folder: Path, count: int, rng: random.Random) -> dict[str, Rows]:
    """Files of sizes between the smallest and the largest, small ones as likely as large ones, by their paths."""
    written: dict[str, Rows] = {}
    block = 1
    for number in range(count):
        size_bytes = _SMALLEST_BYTES * (_LARGEST_BYTES / _SMALLEST_BYTES) ** rng.random()
        rows = max(1, int(size_bytes) // _ROW_BYTES)
        path = folder / f"{number:04}.csv"
        data.write(path, rows, first_block=block)
        written[str(path)] = Rows(block, 0, rows)
        block += 1 + rows // data.BLOCK_ROWS
    return written


def load(command: Command, folder: Path, rng: random.Random) -> tuple[dict[str, Any], int]:
    """The fleet's receipt, and how many workers were killed on the way."""
    words = ["fleet", str(command.source), command.topic, "-b", command.bootstrap, "--local", str(_WORKERS), "--json"]
    words += ["--checkpoint", f"sqlite:///{folder / 'checkpoints.db'}", "--name", command.topic, *command.options]
    log = folder / f"{command.topic}.log"
    with log.open("w") as stderr:
        driver = subprocess.Popen(
            die_with_parent([sys.executable, "-m", "csv2kafka", *words]),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            kills = _kill_workers(driver, command, rng)
            stdout, _ = driver.communicate()
        finally:
            driver.kill()
    if driver.returncode != 0:
        sys.exit(f"FAILED: exit code {driver.returncode}: {stdout[-2000:]}\n{log.read_text()[-3000:]}")
    return json.loads(stdout), kills


def _kill_workers(driver: subprocess.Popen[str], command: Command, rng: random.Random) -> int:
    """Kill one whenever the topic has come to the next goal; returns how many."""
    goals = sorted(rng.randrange(1, command.rows * 95 // 100) for _ in range(command.kills))
    kills, told_s = 0, time.monotonic()
    with closing(EndOffset(command.bootstrap, command.topic, PARTITIONS)) as end_offset:
        while kills < len(goals):
            try:
                driver.wait(timeout=0.02)
                return kills
            except subprocess.TimeoutExpired:
                end = end_offset()
            if time.monotonic() - told_s > _PROGRESS_S:
                told_s = time.monotonic()
                say(f"  {end:,} of {command.rows:,} rows, {kills} kills")
            if end >= goals[kills] and (workers := workers_of(driver)):
                rng.choice(workers).kill()
                kills += 1
    return kills


def check(receipt: dict[str, Any], written: dict[str, Rows], bootstrap: str, totals: Totals) -> None:
    """Read the fleet's topic, two partitions at a time; which file follows which there is the receipt's word."""
    lanes: dict[int, list[tuple[int, Rows]]] = {number: [] for number in range(PARTITIONS)}
    for entry in receipt["files"]:
        whole, part = written[entry["source"]], entry["part"]
        first_row = part["first_row"] if part else 0
        rows = Rows(whole.first_block, first_row, first_row + entry["rows"])
        lanes[entry["partition"]].append((entry["first_offset"] or 0, rows))
    told = sum(rows.end_row - rows.first_row for lane in lanes.values() for _, rows in lane)
    known = sum(rows.end_row for rows in written.values())
    totals.files += len(written)
    totals.rows += known
    totals.missing += known - told
    with ProcessPoolExecutor(2) as processes:
        compared = {
            number: processes.submit(
                compare_partition, bootstrap, receipt["topic"], number, [rows for _, rows in sorted(lane, key=_first)]
            )
            for number, lane in lanes.items()
        }
        for number, future in compared.items():
            found = future.result()
            totals.missing += found.missing
            totals.surplus += found.surplus
            if not found.is_equal:
                say(f"DIFFERENT: {receipt['topic']}-{number}: {found}")
                totals.unordered += [] if found.in_order else [f"{receipt['topic']}-{number}"]


def _first(entry: tuple[int, Rows]) -> int:
    return entry[0]


def compare_partition(bootstrap: str, topic: str, partition: int, lane: Sequence[Rows]) -> Comparison:
    """In a process of its own."""
    expected = chain.from_iterable(rows.values() for rows in lane)
    batches = iter_messages(bootstrap, topic, partition, "read_committed")
    return compare(expected, ([message.value() or b"" for message in batch] for batch in batches))


def run(options: argparse.Namespace) -> int:
    """The exit code: 0 when every topic is what its files are."""
    began_s, rng, totals = time.monotonic(), random.Random(options.seed), Totals()
    say(f"seed {options.seed}")
    huge_rows = max(PARTITIONS, int(options.gigabytes * 1e9) // _ROW_BYTES)
    with tempfile.TemporaryDirectory(prefix="csv2kafka-fleet-") as name, start_broker() as broker:
        folder, files = Path(name), Path(name) / "files"
        files.mkdir()
        require_room(folder, huge_rows + options.files * _LARGEST_BYTES // 9 // _ROW_BYTES)
        with fresh_topic(broker.bootstrap, PARTITIONS) as topic:
            written = write_files(files, options.files, rng)
            rows = sum(each.end_row for each in written.values())
            say(f"{len(written)} files, {rows:,} rows")
            command = Command(files, topic, broker.bootstrap, (), rows, options.kills, options.plant)
            _one_fleet(command, written, folder, rng, totals)
        with fresh_topic(broker.bootstrap, PARTITIONS) as topic:
            huge = folder / "huge.csv"
            size_bytes = data.write(huge, huge_rows, first_block=_HUGE_BLOCK)
            say(f"one file of {size_bytes / 1e9:.2f} GB, {huge_rows:,} rows, in {PARTITIONS} parts")
            split = ("--split", str(PARTITIONS))
            command = Command(huge, topic, broker.bootstrap, split, huge_rows, options.kills, options.plant)
            _one_fleet(command, {str(huge): Rows(_HUGE_BLOCK, 0, huge_rows)}, folder, rng, totals)
    say(
        f"{totals.files} files, {totals.rows:,} rows, {totals.kills} kills, duplicates {totals.surplus}, "
        f"gaps {totals.missing}, {time.monotonic() - began_s:.0f} s"
    )
    enough = totals.kills >= 2 * options.kills
    if not enough:
        say(f"too few kills: {2 * options.kills} were wanted, and the rows were through before")
    return 0 if totals.is_exact and enough else 1


def _one_fleet(command: Command, written: dict[str, Rows], folder: Path, rng: random.Random, totals: Totals) -> None:
    began_s = time.monotonic()
    receipt, kills = load(command, folder, rng)
    totals.kills += kills
    say(f"  loaded through {kills} kills in {time.monotonic() - began_s:.0f} s; reading it back")
    if command.plants:
        producer = Producer({"bootstrap.servers": command.bootstrap})
        producer.produce(command.topic, next(iter(written.values())).sample(), partition=0)
        assert producer.flush(30) == 0
    check(receipt, written, command.bootstrap, totals)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of the one huge file")
    parser.add_argument("--kills", type=int, default=24, help="of each of the two fleets")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="default: a new one")
    parser.add_argument("--plant", action="store_true", help="put a row in once more, which must be found")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # such that nothing is left behind
    sys.exit(run(options))


if __name__ == "__main__":
    main()
