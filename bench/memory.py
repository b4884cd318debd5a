"""Peak memory for files of several sizes: it must not grow with the file.

    python -m bench.memory [--rows 1000000,5000000,50000000] [--s3] [--json FILE]

Files and topics are deleted afterwards; the disk's room is looked at first (50 M rows: 3.3 GB, as much again on S3,
and 2.5 GB in the topic).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import data, loader, report
from bench.disk import require_room
from bench.objects import Bucket
from bench.topics import check_rows, fresh_topic, start_broker

_MAX_S = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_counts, default=[1_000_000, 5_000_000, 50_000_000], metavar="N,...")
    parser.add_argument("--s3", action="store_true", help="read from a real S3 server instead of the disk")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    busy = report.busy()
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="csv2kafka-bench-")))
        require_room(folder, max(options.rows), copies=2 if options.s3 else 1)
        bucket = cleanup.enter_context(Bucket()) if options.s3 else None
        broker = cleanup.enter_context(start_broker())
        found = [_measure(rows, folder, broker.bootstrap, bucket) for rows in options.rows]
    _show(found, busy)
    if options.json:
        options.json.write_text(json.dumps({"machine": report.machine(), "load_before": busy, "loads": found}) + "\n")


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _measure(rows: int, folder: Path, bootstrap: str, bucket: Bucket | None) -> dict[str, Any]:
    file = folder / f"{rows}.csv"
    data.write(file, rows)
    source, environment = str(file), {}
    if bucket is not None:
        source, environment = bucket.upload(file), bucket.environment
        file.unlink()
    with fresh_topic(bootstrap) as topic:
        running = loader.start(source, topic, bootstrap, folder / f"{topic}.db", environment)
        load = loader.finish(running, _MAX_S)
        check_rows(bootstrap, topic, rows)
    if bucket is None:
        file.unlink()
    else:
        bucket.delete(source)
    return {
        "rows": rows,
        "source": "S3" if bucket else "disk",
        "peak_mb": load.usage.peak_bytes / 1e6,
        "rows_per_s": load.steady_rows_per_s,
    }


def _show(found: list[dict[str, Any]], busy: float | None) -> None:
    table = Table(title="Peak memory of the loader")
    for heading in ("rows", "from", "peak MB", "rows/s"):
        table.add_column(heading, justify="right")
    for row in found:
        table.add_row(f"{row['rows']:,}", row["source"], f"{row['peak_mb']:,.0f}", f"{row['rows_per_s']:,.0f}")
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
