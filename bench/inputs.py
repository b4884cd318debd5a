"""What a form of the file or of the records costs: a load of each beside a plain one; of packed files reading alone.

    python -m bench.inputs [--rows 3000000] [--rounds 3] [--forms plain,gzip,...] [--against CHECKOUT]

Reading alone is the most that a load of that form can reach: one thread inflates. Rounds go through all forms in turn.
CPU is the client's, less that of a load of few rows. `--against` loads the plain file with another checkout as well.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
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
_FEW_ROWS = 5_000
_PLAIN, _BEFORE = "plain", "plain, before"
_BAD_EVERY = 1_000
_TYPES = {"id": "int", "name": "string", "email": "string", "value": "decimal", "timestamp": "timestamp"}


def _plain(text: bytes) -> bytes:
    return text


def _bgzip(text: bytes) -> bytes:
    return b"".join(igzip.compress(text[at : at + _BLOCK_BYTES], 1) for at in range(0, len(text), _BLOCK_BYTES))


def _all_quoted(text: bytes) -> bytes:
    out = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(text.decode(), newline=""))
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def _some_bad(text: bytes) -> bytes:
    """Each row's own bytes, but for one in a thousand, which has a field too many (in place of a letter)."""
    lines = text.split(b"\n")
    for number in range(_BAD_EVERY, len(lines), _BAD_EVERY):
        lines[number] = lines[number].replace(b"@", b",", 1)
    return b"\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Form:
    """How the file's bytes differ from the plain one's, and with which options it is loaded."""

    write: Callable[[bytes], bytes] = _plain
    options: tuple[str, ...] = ()
    partitions: int = 1
    is_packed: bool = False


_FORMS = {
    _PLAIN: _Form(),
    "metrics port": _Form(options=("--metrics-port", "0")),
    "all-quoted": _Form(_all_quoted),
    "key": _Form(options=("--key", "email")),
    "key, 8 partitions": _Form(options=("--key", "email"), partitions=8),
    "typed": _Form(options=("--schema", "schema.json")),
    "provenance": _Form(options=("--headers", "provenance")),
    "csv": _Form(options=("--format", "csv")),
    "raw": _Form(options=("--format", "raw")),
    "quarantine": _Form(options=("--bad-rows", "quarantine")),
    "quarantine, 0.1 % bad": _Form(_some_bad, ("--bad-rows", "quarantine")),
    "gzip": _Form(lambda text: gzip.compress(text, 6), is_packed=True),
    "bgzip": _Form(_bgzip, is_packed=True),
    "zstd": _Form(ZstdCompressor(level=3).compress, is_packed=True),
    "lz4": _Form(lz4_frame.compress, is_packed=True),
    "utf-16": _Form(lambda text: text.decode().encode("utf-16"), is_packed=True),
}


@dataclass(slots=True)
class _Found:
    object_bytes: int
    read_mb_per_s: list[float] = field(default_factory=list)
    read_ns_per_row: list[float] = field(default_factory=list)
    rows_per_s: list[float] = field(default_factory=list)
    cpu_ns_per_row: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Bench:
    folder: Path
    rows: int
    bootstrap: str
    before: Path | None  # another checkout

    def measure(self, name: str, form: _Form, found: _Found) -> None:
        path = self.folder / name
        if form.is_packed:
            _read(path, self.rows, found)
        few = self._load(name, form, self.folder / f"{name}.few", _FEW_ROWS)
        load = self._load(name, form, path, self.rows)
        found.rows_per_s.append(load.steady_rows_per_s)
        found.cpu_ns_per_row.append((load.usage.cpu_s - few.usage.cpu_s) * 1e9 / (self.rows - _FEW_ROWS))

    def _load(self, name: str, form: _Form, path: Path, rows: int) -> loader.Load:
        env = {"PYTHONPATH": str(self.before / "src")} if name == _BEFORE and self.before else None
        options = tuple(str(self.folder / word) if word.endswith(".json") else word for word in form.options)
        with fresh_topic(self.bootstrap, form.partitions) as topic:
            running = loader.start(path, topic, self.bootstrap, self.folder / f"{topic}.db", env, options)
            load = loader.finish(running)
            quarantine = load.receipt.get("quarantine") or {"rows": 0}
            check_rows(self.bootstrap, topic, rows - quarantine["rows"], form.partitions)
        return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default=";".join(_FORMS), metavar="NAME;...")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    options = parser.parse_args()
    names = options.forms.split(";")
    if unknown := set(names) - set(_FORMS):
        sys.exit(f"no such form: {', '.join(unknown)}; there are {', '.join(_FORMS)}")
    forms = {name: _FORMS[name] for name in names}
    if options.against:
        forms = {_BEFORE: _FORMS[_PLAIN], **forms}
    busy = report.busy()
    with tempfile.TemporaryDirectory(prefix="csv2kafka-bench-") as place:
        folder = Path(place)
        require_room(folder, options.rows, copies=len(forms))
        found = _write_all(folder, forms, options.rows)
        with start_broker() as broker:
            bench = _Bench(folder, options.rows, broker.bootstrap, options.against)
            for number in range(options.rounds):
                for name, form in forms.items():
                    print(f"round {number + 1}: {name}", file=sys.stderr)
                    bench.measure(name, form, found[name])
    _show(found, options.rows, busy)


def _write_all(folder: Path, forms: dict[str, _Form], rows: int) -> dict[str, _Found]:
    (folder / "schema.json").write_text(json.dumps({"columns": _TYPES}))
    plain = folder / "data.csv"
    for suffix, count in ((".few", _FEW_ROWS), ("", rows)):
        data.write(plain, count)
        text = plain.read_bytes()
        sizes = {name: folder.joinpath(name + suffix).write_bytes(form.write(text)) for name, form in forms.items()}
    return {name: _Found(size) for name, size in sizes.items()}


def _read(path: Path, rows: int, found: _Found) -> None:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with open_source(str(path)) as raw:
        source, _ = as_text(raw)
        size_bytes = sum(map(len, source.read_from(0)))
    found.read_mb_per_s.append(size_bytes / 1e6 / (time.perf_counter() - began_s))
    found.read_ns_per_row.append((time.process_time() - began_cpu_s) * 1e9 / rows)


def _show(found: dict[str, _Found], rows: int, busy: float | None) -> None:
    table = Table(title=f"{rows:,} rows of each form; medians, start-up apart")
    for heading in ("form", "object MB", "read MB/s", "read CPU ns/row", "load rows/s", "load CPU ns/row", "of plain"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    plain = statistics.median(found[_PLAIN].cpu_ns_per_row) if _PLAIN in found else None
    for form, figures in found.items():
        cpu_ns = statistics.median(figures.cpu_ns_per_row)
        table.add_row(
            form,
            f"{figures.object_bytes / 1e6:,.0f}",
            f"{statistics.median(figures.read_mb_per_s):,.0f}" if figures.read_mb_per_s else "",
            f"{statistics.median(figures.read_ns_per_row):,.0f}" if figures.read_ns_per_row else "",
            f"{statistics.median(figures.rows_per_s):,.0f}",
            f"{cpu_ns:,.0f}",
            f"{cpu_ns / plain:.2f}" if plain else "",
        )
    report.show_table(table, busy)


if __name__ == "__main__":
    main()
