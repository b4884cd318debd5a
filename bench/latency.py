"""How the round trip to the broker slows a load: csv2kafka through a proxy that delays both ways.

    python -m bench.latency [--rtt-ms 0,1,10] [--rows 5000000] [--rounds 3] [--json FILE]

The proxy runs on the same cores and takes its share of them (round trip 0: the proxy without a delay). The broker's
own connections and the check of the topic do not pass it.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import struct
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import data, loader, report
from bench.topics import QUICK_DELETES, check_rows, fresh_topic
from tests.support.far_broker import far_broker
from tests.support.tcp_proxy import HOST


@dataclass(slots=True)
class Distance:
    """A way to the broker: its round trip (None: without the proxy), as set and as measured, and the loads over it."""

    rtt_ms: float | None
    measured_ms: float = 0.0
    loads: list[loader.Load] = field(default_factory=list)


def main() -> None:
    options = _parse()
    busy = report.busy()
    source = data.cached(options.rows)
    distances = [Distance(rtt_ms) for rtt_ms in (None, *options.rtt_ms)]
    with (
        tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as folder,
        far_broker(QUICK_DELETES, heap_mb=1024) as (broker, proxy, far),
    ):
        for number in range(options.rounds + 1):  # the first one warms up
            for distance in distances:
                delay_s = (distance.rtt_ms or 0) / 2000
                proxy.delay(up_s=delay_s, down_s=delay_s)
                bootstrap = broker.bootstrap if distance.rtt_ms is None else far
                distance.measured_ms = _round_trip_ms(int(bootstrap.rpartition(":")[2]))
                with fresh_topic(broker.bootstrap) as topic:
                    running = loader.start(source, topic, bootstrap, Path(folder) / f"{topic}.db")
                    load = loader.finish(running)
                    check_rows(broker.bootstrap, topic, options.rows)
                if number > 0:
                    distance.loads.append(load)
    found = [_summary(distance) for distance in distances]
    _show(found, busy)
    if options.json:
        facts = {"machine": report.machine(), "load_before": busy, "rows": options.rows, "round_trips": found}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtt-ms", type=_numbers, default=[0.0, 1.0, 10.0], metavar="MS,...")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _round_trip_ms(port: int) -> float:
    """The shortest of ten exchanges with the broker (ApiVersions, version 0): network and broker together."""
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    trips_s = []
    with socket.create_connection((HOST, port)) as connection, connection.makefile("rb") as answers:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            sent_s = time.perf_counter()
            connection.sendall(request)
            answers.read(struct.unpack(">i", answers.read(4))[0])
            trips_s.append(time.perf_counter() - sent_s)
    return min(trips_s) * 1000


def _summary(distance: Distance) -> dict[str, Any]:
    rates = [load.steady_rows_per_s for load in distance.loads]
    return {
        "round_trip": "no proxy" if distance.rtt_ms is None else f"{distance.rtt_ms:g} ms",
        "measured_round_trip_ms": round(distance.measured_ms, 2),
        "rows_per_s": statistics.median(rates),
        "rows_per_s_all": rates,
        "startup_s": statistics.median(load.receipt["startup_s"] for load in distance.loads),
    }


def _show(found: list[dict[str, Any]], busy: float | None) -> None:
    table = Table(title="Rows into one partition, by the round trip to the broker; start-up apart")
    for heading in ("round trip", "measured ms", "rows/s", "from - to", "first row after s"):
        table.add_column(heading, justify="right")
    for row in found:
        rates = row["rows_per_s_all"]
        table.add_row(
            row["round_trip"],
            f"{row['measured_round_trip_ms']:.2f}",
            f"{row['rows_per_s']:,.0f}",
            f"{min(rates):,.0f} - {max(rates):,.0f}",
            f"{row['startup_s']:.1f}",
        )
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
