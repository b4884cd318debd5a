"""How soon a killed load goes on: a large file, SIGKILL near its end, the same command again.

    python -m bench.resume [--gb 3] [--kill-at 0.9] [--rounds 1] [--json FILE]

Measured is what the receipt of the second run says: the seconds from holding the lease to the first new row that the
broker acknowledged. File and topic are deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import data, loader, report
from bench.disk import require_room
from bench.measured import Measured
from bench.topics import check_rows, fresh_topic, start_broker
from tests.support.oracle import end_offset

_BYTES_PER_ROW = 66.2
_MAX_S = 3600.0
_TARGET_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--kill-at", type=float, default=0.9, metavar="SHARE")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = int(options.gb * 1e9 / _BYTES_PER_ROW)
    busy = report.busy()
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as folder:
        require_room(Path(folder), rows)
        source = Path(folder) / f"{rows}.csv"
        data.write(source, rows)
        with start_broker() as broker:
            found = [_kill_and_resume(broker.bootstrap, source, rows, options.kill_at) for _ in range(options.rounds)]
    _show(found, busy)
    if options.json:
        options.json.write_text(json.dumps({"machine": report.machine(), "load_before": busy, "resumes": found}) + "\n")


def _kill_and_resume(bootstrap: str, source: Path, rows: int, kill_at: float) -> dict[str, Any]:
    with fresh_topic(bootstrap) as topic:
        state = source.with_name(f"{topic}.db")
        first = loader.start(source, topic, bootstrap, state)
        killed_at_row = _kill_when_topic_holds(first, bootstrap, topic, int(rows * kill_at))
        peak_before_mb = first.wait().peak_bytes / 1e6
        resumed_s = time.monotonic()
        load = loader.finish(loader.start(source, topic, bootstrap, state), _MAX_S)
        whole_s = time.monotonic() - resumed_s
        check_rows(bootstrap, topic, rows)
    receipt = load.receipt
    if receipt["rows"] != rows or not 0 < receipt["rows_this_run"] < rows:
        sys.exit(f"this was no resume: {receipt}")
    return {
        "file_bytes": source.stat().st_size,
        "rows": rows,
        "killed_at_row": killed_at_row,
        "resumed_at_row": receipt["resumed_at_row"],
        "first_new_row_s": receipt["startup_s"],
        "whole_run_s": whole_s,
        "rows_per_s": load.steady_rows_per_s,
        "peak_before_mb": peak_before_mb,
        "peak_after_mb": load.usage.peak_bytes / 1e6,
    }


def _kill_when_topic_holds(running: Measured, bootstrap: str, topic: str, rows: int) -> int:
    """SIGKILL the loader once the topic's end has reached `rows`; return where it was."""
    while (end := end_offset(bootstrap, topic)) < rows:
        if not running.is_running:
            running.wait_for_success()
            sys.exit("the load was over before it could be killed: take a larger file")
        time.sleep(0.02)
    running.kill()
    return end


def _show(found: list[dict[str, Any]], busy: float | None) -> None:
    table = Table(title=f"Resume after SIGKILL; the first new row at most {_TARGET_S:g} s after holding the lease")
    for heading in ("file GB", "resumed at row", "of", "first new row after s", "", "peak MB before", "after"):
        table.add_column(heading, justify="right")
    for row in found:
        table.add_row(
            f"{row['file_bytes'] / 1e9:.2f}",
            f"{row['resumed_at_row']:,}",
            f"{row['rows']:,}",
            f"{row['first_new_row_s']:.2f}",
            "[green]met[/]" if row["first_new_row_s"] <= _TARGET_S else "[red]missed[/]",
            f"{row['peak_before_mb']:,.0f}",
            f"{row['peak_after_mb']:,.0f}",
        )
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
