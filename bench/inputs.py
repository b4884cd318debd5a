"""What an input's form costs: reading it alone, and loading it, plain, gzip, bgzip-like, zstd, UTF-16.

    python -m bench.inputs [--rows 3000000] [--rounds 3] [--forms plain,gzip,...]

Reading alone is the most that a load of that form can reach: one thread inflates. Rounds go through all forms in turn.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from isal import igzip
from lz4 import frame as lz4_frame
from rich.table import Table
from zstandard import ZstdCompressor

from bench import data, loader, report
from bench.disk import require_room
from bench.topics import check_rows, fresh_topic, start_broker
from csv2kafka.sources import open_source
from csv2kafka.sources.text import as_text

_BLOCK_BYTES = 64 << 10  # of bgzip


def _bgzip(text: bytes) -> bytes:
    return b"".join(igzip.compress(text[at : at + _BLOCK_BYTES], 1) for at in range(0, len(text), _BLOCK_BYTES))


_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "gzip": lambda text: gzip.compress(text, 6),
    "bgzip": _bgzip,
    "zstd": ZstdCompressor(level=3).compress,
    "lz4": lz4_frame.compress,
    "utf-16": lambda text: text.decode().encode("utf-16"),
}


@dataclass(slots=True)
class _Found:
    object_bytes: int
    read_mb_per_s: list[float] = field(default_factory=list)
    read_ns_per_row: list[float] = field(default_factory=list)
    rows_per_s: list[float] = field(default_factory=list)
    cpu_ns_per_row: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default=",".join(_FORMS), metavar="NAME,...")
    options = parser.parse_args()
    forms = options.forms.split(",")
    if unknown := set(forms) - set(_FORMS):
        sys.exit(f"no such form: {', '.join(unknown)}; there are {', '.join(_FORMS)}")
    busy = report.busy()
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as name:
        folder = Path(name)
        require_room(folder, options.rows, copies=len(forms))
        plain = folder / "plain.csv"
        data.write(plain, options.rows)
        found = {form: _Found(_write(folder / form, form, plain)) for form in forms}
        with start_broker() as broker:
            for number in range(options.rounds):
                for form in forms:
                    print(f"round {number + 1}: {form}", file=sys.stderr)
                    _read(folder / form, options.rows, found[form])
                    _load(folder / form, options.rows, broker.bootstrap, found[form])
    _show(found, options.rows, busy)


def _write(path: Path, form: str, plain: Path) -> int:
    return path.write_bytes(_FORMS[form](plain.read_bytes()))


def _read(path: Path, rows: int, found: _Found) -> None:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with open_source(str(path)) as raw:
        source, _ = as_text(raw)
        size_bytes = sum(map(len, source.read_from(0)))
    found.read_mb_per_s.append(size_bytes / 1e6 / (time.perf_counter() - began_s))
    found.read_ns_per_row.append((time.process_time() - began_cpu_s) * 1e9 / rows)


def _load(path: Path, rows: int, bootstrap: str, found: _Found) -> None:
    with fresh_topic(bootstrap) as topic:
        load = loader.finish(loader.start(path, topic, bootstrap, path.with_name(f"{topic}.db")))
        check_rows(bootstrap, topic, rows)
    found.rows_per_s.append(load.steady_rows_per_s)
    found.cpu_ns_per_row.append(load.usage.cpu_s * 1e9 / rows)


def _show(found: dict[str, _Found], rows: int, busy: float | None) -> None:
    table = Table(title=f"{rows:,} rows of each form; medians (CPU of a load with its start-up)")
    for heading in ("form", "object MB", "read MB/s", "read CPU ns/row", "load rows/s", "load CPU ns/row", "of plain"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    plain = statistics.median(found["plain"].cpu_ns_per_row) if "plain" in found else None
    for form, figures in found.items():
        cpu_ns = statistics.median(figures.cpu_ns_per_row)
        table.add_row(
            form,
            f"{figures.object_bytes / 1e6:,.0f}",
            f"{statistics.median(figures.read_mb_per_s):,.0f}",
            f"{statistics.median(figures.read_ns_per_row):,.0f}",
            f"{statistics.median(figures.rows_per_s):,.0f}",
            f"{cpu_ns:,.0f}",
            f"{cpu_ns / plain:.2f}" if plain else "",
        )
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
