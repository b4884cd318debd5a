"""What compare.py found, as a table for people and as JSON: medians, spreads, start-up apart, and the targets.

Nothing is run here. Start-up is told apart in one of two ways: the program says how long its sending alone took, or
the seconds (and the CPU time) of a run of hardly any rows are taken off.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.peers import Peer, Result
from csv2kafka import __version__
from csv2kafka.devbroker import KAFKA_VERSION

_MIN_ROWS = 1_000_000  # with fewer, what start-up takes varies by more than all rows take
_BUSY_LOAD = 0.5  # other programs' share of one core, above which figures are doubtful


@dataclass(slots=True)
class Runs:
    """All runs of one program; `startups` are those of few rows."""

    peer: Peer
    results: list[Result] = field(default_factory=list)
    startups: list[Result] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Summary:
    """One program's figures, a list with an entry for each round; rates and CPU are steady, start-up is not in them."""

    name: str
    what: str
    rows: int
    rows_per_s: list[float]
    cpu_ns_per_row: list[float]
    startup_s: list[float]
    startup_cpu_s: list[float]
    whole_rows_per_s: list[float]
    whole_cpu_ns_per_row: list[float]
    peak_mb: list[float]


@dataclass(frozen=True, slots=True)
class Target:
    """A line of what csv2kafka must hold; `found` is None where a program was left out or ran too short."""

    what: str
    found: float | None
    wanted: float
    at_least: bool
    unit: str

    @property
    def is_met(self) -> bool | None:
        if self.found is None:
            return None
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted


def rate(runs: Runs, result: Result) -> float:
    """Rows a second without start-up."""
    return result.rows / _steady_s(runs, result)


def summarize(runs: Runs) -> Summary:
    results = runs.results
    return Summary(
        name=runs.peer.name,
        what=runs.peer.what,
        rows=results[0].rows,
        rows_per_s=[rate(runs, result) for result in results],
        cpu_ns_per_row=[_steady_cpu_s(runs, result) / result.rows * 1e9 for result in results],
        startup_s=[result.usage.wall_s - _steady_s(runs, result) for result in results],
        startup_cpu_s=[result.usage.cpu_s - _steady_cpu_s(runs, result) for result in results],
        whole_rows_per_s=[result.rows / result.usage.wall_s for result in results],
        whole_cpu_ns_per_row=[result.usage.cpu_s / result.rows * 1e9 for result in results],
        peak_mb=[result.usage.peak_bytes / 1e6 for result in results],
    )


def _steady_s(runs: Runs, result: Result) -> float:
    if result.loop_s is not None:
        return result.loop_s
    return result.usage.wall_s - statistics.median(startup.usage.wall_s for startup in runs.startups)


def _steady_cpu_s(runs: Runs, result: Result) -> float:
    if result.loop_cpu_s is not None:
        return result.loop_cpu_s
    return result.usage.cpu_s - statistics.median(startup.usage.cpu_s for startup in runs.startups)


def targets(summaries: Sequence[Summary]) -> list[Target]:
    """What the program has to hold. Ratios are of medians; runs too short for a verdict count as not measured."""
    by_name = {summary.name: summary for summary in summaries if summary.rows >= _MIN_ROWS}

    def median(name: str, figures: Callable[[Summary], list[float]]) -> float | None:
        return statistics.median(figures(by_name[name])) if name in by_name else None

    def ratio(peer: str) -> float | None:
        ours, other = median("ours", _rates), median(peer, _rates)
        return ours / other if ours and other else None

    peaks = [max(by_name[name].peak_mb) for name in ("ours", "ours-s3") if name in by_name]
    return [
        Target("ours / broker's limit", ratio("prebuilt"), 0.70, True, "x"),
        Target("ours / kcat -l", ratio("kcat"), 1.8, True, "x"),
        Target("ours / kafka-producer-perf-test", ratio("perf-test"), 3.0, True, "x"),
        Target("ours: client CPU per row", median("ours", _cpu), 450, False, "ns"),
        Target("ours from S3: client CPU per row", median("ours-s3", _cpu), 550, False, "ns"),
        Target("ours: peak memory", max(peaks, default=None), 350, False, "MB"),
    ]


def _rates(summary: Summary) -> list[float]:
    return summary.rows_per_s


def _cpu(summary: Summary) -> list[float]:
    return summary.cpu_ns_per_row


def show(summaries: Sequence[Summary], found: Sequence[Target], busy_load: float | None) -> None:
    table = Table(title="Rows into one partition, lz4, acks=all; start-up apart")
    table.add_column("program", no_wrap=True)
    table.add_column("what it does")
    for heading in ("rows", "rows/s", "from - to", "CPU ns/row", "start-up s", "peak MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in sorted(summaries, key=lambda one: -statistics.median(one.rows_per_s)):
        table.add_row(
            summary.name,
            summary.what,
            f"{summary.rows:,}",
            f"{statistics.median(summary.rows_per_s):,.0f}",
            f"{min(summary.rows_per_s):,.0f} - {max(summary.rows_per_s):,.0f}",
            f"{statistics.median(summary.cpu_ns_per_row):,.0f}",
            f"{statistics.median(summary.startup_s):.1f}",
            f"{max(summary.peak_mb):,.0f}",
            style="bold" if summary.name.startswith("ours") else None,
        )
    goals = Table(title="What csv2kafka has to hold")
    goals.add_column("target", no_wrap=True)
    for heading in ("found", "wanted", ""):
        goals.add_column(heading, justify="right", no_wrap=True)
    for target in found:
        bound = ("at least" if target.at_least else "at most") + f" {target.wanted:g} {target.unit}"
        value = (
            "not measured"
            if target.found is None
            else f"{target.found:,.{0 if target.found >= 10 else 2}f} {target.unit}"
        )
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[target.is_met]
        goals.add_row(target.what, value, bound, mark)
    show_table(table, None)
    show_table(goals, busy_load)


def show_table(table: Table, busy_load: float | None) -> None:
    """Print to stdout, as wide as need be where that is no terminal; say so when the machine was not quiet."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    console.print(table)
    if busy_load is not None:
        console.print(f"[yellow]The machine was not quiet (load {busy_load:.1f} before the start): measure again.[/]")


def busy() -> float | None:
    """The load of the last minute where it is too high for measurements. Ask before anything is started."""
    load = os.getloadavg()[0]
    return load if load > _BUSY_LOAD else None


def as_dict(
    summaries: Sequence[Summary], found: Sequence[Target], rows: int, rounds: int, busy_load: float | None
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_before": busy_load,
        "rows": rows,
        "rounds": rounds,
        "programs": [_summary_dict(summary) for summary in summaries],
        "targets": [
            {
                "what": target.what,
                "found": target.found,
                "wanted": target.wanted,
                "bound": "at least" if target.at_least else "at most",
                "unit": target.unit,
                "met": target.is_met,
            }
            for target in found
        ],
    }


def _summary_dict(summary: Summary) -> dict[str, Any]:
    told_once = ("name", "what", "rows")
    figures = [each.name for each in fields(Summary) if each.name not in told_once]
    return {name: getattr(summary, name) for name in told_once} | {
        figure: {
            "median": statistics.median(getattr(summary, figure)),
            "all": [round(value, 3) for value in getattr(summary, figure)],
        }
        for figure in figures
    }


def machine() -> dict[str, Any]:
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "csv2kafka": __version__,
        "kafka": KAFKA_VERSION,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
