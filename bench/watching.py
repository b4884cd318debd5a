"""What being watched costs: CPU a row without the metrics port, with it, and with a page and Prometheus that look on.

    python -m bench.watching [--rows 15000000] [--rounds 5]

The page is asked for its figures once a second, as a browser does, the metrics every 5 seconds. The variants take turns
on one broker; start-up is taken out by a load of a few rows each time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.table import Table

from bench import data, loader, report
from bench.s3server import free_port
from bench.topics import check_rows, fresh_topic, start_broker

_FEW_ROWS = 5_000
_PAGE_EVERY_S, _METRICS_EVERY_S = 1.0, 5.0
_VARIANTS = {"unwatched": (False, False), "metrics port": (True, False), "page and Prometheus": (True, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=15_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    busy = report.busy()
    many, few = data.cached(options.rows), data.cached(_FEW_ROWS)
    cpu_ns: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as folder, start_broker() as broker:

        def cpu_s(name: str, source: Path, rows: int) -> float:
            port, is_watched = _VARIANTS[name]
            with fresh_topic(broker.bootstrap) as topic:
                number = free_port()
                given = ("--metrics-port", str(number)) if port else ()
                with _looking(number, wanted=is_watched):
                    started = loader.start(source, topic, broker.bootstrap, Path(folder, f"{topic}.db"), None, given)
                    load = loader.finish(started)
                check_rows(broker.bootstrap, topic, rows)
            return load.usage.cpu_s

        for name in _VARIANTS:
            cpu_s(name, few, _FEW_ROWS)  # compiles what is to be compiled
        for number in range(1, options.rounds + 1):
            for name, figures in cpu_ns.items():
                start_s = cpu_s(name, few, _FEW_ROWS)
                figures.append((cpu_s(name, many, options.rows) - start_s) * 1e9 / (options.rows - _FEW_ROWS))
                print(f"round {number}: {name:20} {figures[-1]:6.1f} ns/row", file=sys.stderr, flush=True)
    _show(cpu_ns, busy)


@contextmanager
def _looking(port: int, *, wanted: bool) -> Iterator[None]:
    """Ask as a page and as Prometheus do, until left."""
    over = threading.Event()

    def ask(path: str, every_s: float) -> None:
        while not over.wait(every_s):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                answer.read()

    wishes = (("/status.json", _PAGE_EVERY_S), ("/metrics", _METRICS_EVERY_S)) if wanted else ()
    askers = [threading.Thread(target=ask, args=wish) for wish in wishes]
    for asker in askers:
        asker.start()
    try:
        yield
    finally:
        over.set()
        for asker in askers:
            asker.join()


def _show(cpu_ns: dict[str, list[float]], busy: float | None) -> None:
    table = Table(title="What being watched costs: client CPU, start-up apart")
    table.add_column("", no_wrap=True)
    for heading in ("ns/row", "from - to", "against unwatched"):
        table.add_column(heading, justify="right", no_wrap=True)
    base = statistics.median(cpu_ns["unwatched"])
    for name, figures in cpu_ns.items():
        middle = statistics.median(figures)
        table.add_row(name, f"{middle:.0f}", f"{min(figures):.0f} - {max(figures):.0f}", f"{middle / base:.3f}")
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
