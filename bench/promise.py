"""What the promise costs: the program as it is, and without the parts that make every row exactly once.

    python -m bench.promise [--rows 10000000] [--rounds 3] [--json FILE]

The variants take turns on one broker: without the lease and the checkpoints (a store that keeps nothing), without the
fence (`--delivery lease-only`), without both. Rates are those behind the first acknowledged row, where the fence has
done its work; what it takes until then stands apart. A first round warms up and is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import data, loader, report
from bench.measured import Measured
from bench.topics import check_rows, fresh_topic, start_broker

_LEASE_ONLY = ("--delivery", "lease-only")
_WHOLE = "the program as it is"


@dataclass(slots=True)
class Variant:
    """One way to load, and the loads done so."""

    name: str
    module: str = "csv2kafka"
    options: tuple[str, ...] = ()
    loads: list[loader.Load] = field(default_factory=list)

    def start(self, source: Path, topic: str, bootstrap: str, state: Path) -> Measured:
        python, _, _, *words = loader.command(source, topic, bootstrap, state)
        return Measured([python, "-m", self.module, *words, *self.options])


def variants() -> list[Variant]:
    """The whole program first: the others are compared with it."""
    return [
        Variant(_WHOLE),
        Variant("without lease and checkpoints", "bench.forgetful"),
        Variant("without the fence", options=_LEASE_ONLY),
        Variant("without both", "bench.forgetful", _LEASE_ONLY),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if options.rows < 1 or options.rounds < 1:
        parser.error("at least 1 row and 1 round")
    busy = report.busy()
    source = data.cached(options.rows)
    compared = variants()
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as folder, start_broker() as broker:
        for number in range(options.rounds + 1):
            for variant in compared:
                load = _measure(variant, source, broker.bootstrap, Path(folder), options.rows)
                if number > 0:
                    variant.loads.append(load)
                    rate = load.steady_rows_per_s
                    print(f"round {number}: {variant.name:30} {rate:>12,.0f} rows/s", file=sys.stderr, flush=True)
    found = [_summary(variant, compared[0]) for variant in compared]
    _show(found, busy)
    if options.json:
        facts = {"machine": report.machine(), "load_before": busy, "rows": options.rows, "variants": found}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def _measure(variant: Variant, source: Path, bootstrap: str, folder: Path, rows: int) -> loader.Load:
    with fresh_topic(bootstrap) as topic:
        load = loader.finish(variant.start(source, topic, bootstrap, folder / f"{topic}.db"))
        check_rows(bootstrap, topic, rows)
    os.sync()  # what this one left to be written shall not slow the next one down
    return load


def _summary(variant: Variant, whole: Variant) -> dict[str, Any]:
    """`ratio`: the whole program's rate over this one's, 1 where the missing part costs nothing."""

    def median(of: Variant, figure: Callable[[loader.Load], float]) -> float:
        return statistics.median(map(figure, of.loads))

    return {
        "variant": variant.name,
        "rows_per_s": median(variant, _rate),
        "rows_per_s_all": [_rate(load) for load in variant.loads],
        "ratio": median(whole, _rate) / median(variant, _rate),
        "cpu_ns_per_row": median(variant, _cpu_ns_per_row),
        "first_row_s": median(variant, lambda load: float(load.receipt["startup_s"])),
    }


def _rate(load: loader.Load) -> float:
    return load.steady_rows_per_s


def _cpu_ns_per_row(load: loader.Load) -> float:
    """Start-up included: it is the same in all variants."""
    return load.usage.cpu_s / int(load.receipt["rows_this_run"]) * 1e9


def _show(found: list[dict[str, Any]], busy: float | None) -> None:
    table = Table(title="What the promise costs: rows into one partition, start-up apart")
    table.add_column("", no_wrap=True)
    for heading in ("rows/s", "from - to", "whole / this", "CPU ns/row", "first row after s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found:
        rates = row["rows_per_s_all"]
        table.add_row(
            row["variant"],
            f"{row['rows_per_s']:,.0f}",
            f"{min(rates):,.0f} - {max(rates):,.0f}",
            f"{row['ratio']:.3f}",
            f"{row['cpu_ns_per_row']:,.0f}",
            f"{row['first_row_s']:.2f}",
        )
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
