"""SIGKILL, again and again, over many loads: `python -m bench.chaos --seconds N --seed S`.

Each load has a file, a codec and moments to die of its own, all told by (seed, number). The oracle is an independent
client that reads the topic at both isolation levels. Ends at the first difference with what it takes to see it again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import sys
import tempfile
import time
from itertools import count, zip_longest
from pathlib import Path

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.kills import EndOffset, load_through_kills
from tests.support.oracle import iter_topic
from tests.support.processes import Children

CODECS = ("lz4", "zstd", "gzip", "snappy", "none")
TEXTS = ("plain", 'a "quoted" word', "two\nlines", "x,y;z", "Grüße 日本", "", "\ttab", "long " * 60)


def write_file(path: Path, rng: random.Random) -> int:
    """A CSV of 50,000 to 400,000 rows and one to eight columns; returns its number of rows."""
    rows = rng.randrange(50_000, 400_000)
    columns = rng.randrange(1, 9)
    line_end = rng.choice(("\n", "\r\n", "\r"))
    pool = [tuple(rng.choice(TEXTS) for _ in range(columns)) for _ in range(500)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerow(["row", *(f"column {number}" for number in range(columns))])
        writer.writerows((row, *pool[row * 7919 % len(pool)]) for row in range(rows))
    return rows


def difference(path: Path, bootstrap: str, topic: str, isolation: str) -> str | None:
    """What the first record that is not the file's next row is, None where topic and file are equal."""
    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with path.open(encoding="utf-8-sig", newline="") as file:
        expected = (dumps(row).encode() for row in csv.DictReader(file))
        got = iter_topic(bootstrap, topic, isolation=isolation)  # type: ignore[arg-type]
        for row, (want, have) in enumerate(zip_longest(expected, got), 1):
            if want != have:
                return f"{isolation}, row {row}: expected {want!r}, found {have!r}"
    return None


def one_load(bootstrap: str, folder: Path, seed: int, number: int) -> tuple[int, int]:
    """Load one file through some kills and compare; returns (rows, kills). Exits at a difference."""
    rng = random.Random(f"{seed}/{number}")
    path = folder / "data.csv"
    rows = write_file(path, rng)
    codec = rng.choice(CODECS)
    topic = create_topic(bootstrap)
    children = Children({"XDG_STATE_HOME": str(folder / f"state-{number}")})
    end_offset = EndOffset(bootstrap, topic)
    try:
        kills = load_through_kills(
            lambda: children.start_cli("run", path, topic, "-b", bootstrap, "--compression", codec),
            end_offset,
            kills=rng.randrange(3, 9),
            rows=rows,
            rng=rng,
        )
    finally:
        end_offset.close()
        children.close()
    for isolation in ("read_uncommitted", "read_committed"):
        problem = difference(path, bootstrap, topic, isolation)
        if problem is not None:
            kept = Path(tempfile.mkdtemp(prefix="csv2kafka-chaos-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            sys.exit(f"DIFFERENT: seed {seed}, load {number}, {codec}: {problem}\nfile and checkpoints kept in {kept}")
    return rows, len(kills)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long to go on (default 120)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="default: a new one")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began_s = time.monotonic()
    rows = kills = 0
    with Broker(heap_mb=1024) as broker, tempfile.TemporaryDirectory() as folder:
        for number in count():
            if time.monotonic() - began_s > options.seconds:
                break
            more_rows, more_kills = one_load(broker.bootstrap, Path(folder), options.seed, number)
            rows, kills = rows + more_rows, kills + more_kills
            print(f"load {number}: {more_rows:,} rows, {more_kills} kills: equal", flush=True)
    print(f"{kills} kills over {rows:,} rows in {time.monotonic() - began_s:.0f} s: 0 duplicates, 0 gaps")


if __name__ == "__main__":
    main()
