"""Benchmark files: the same rows as CSV and as ready-made JSON lines, written at the disk's speed, always alike.

Five columns, 66 bytes a row and 117 as JSON, a few rows with quotes, quoted commas and newlines, or letters beyond
ASCII. The JSON comes from Python's csv and json, for peers that only send. Nothing is measured here.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import platformdirs

Kind = Literal["csv", "json"]

HEADER = "id,name,email,value,timestamp\n"
# Ids are a block's number and five digits. A block is repeated far behind what any codec looks back on.
BLOCK_ROWS = 100_000
_BLOCK_NUMBER = "#"
_FIRST_NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ida", "Jon", "Kim", "Lena")
_LAST_NAMES = ("Adler", "Becker", "Cohen", "Diaz", "Evans", "Fox", "Gray", "Haas", "Ito", "Jones", "Khan", "Lee")


def write(path: Path, rows: int, kind: Kind = "csv", *, first_block: int = 1) -> int:
    """Write the first `rows` rows to `path`; return the file's size in bytes. No two blocks have a row in common."""
    template = _template(kind)
    whole_block = "".join(template).encode()
    with path.open("wb") as file:
        if kind == "csv":
            file.write(HEADER.encode())
        for start in range(0, rows, BLOCK_ROWS):
            rest = rows - start
            block = whole_block if rest >= BLOCK_ROWS else "".join(template[:rest]).encode()
            file.write(block.replace(_BLOCK_NUMBER.encode(), b"%d" % (first_block + start // BLOCK_ROWS)))
        return file.tell()


def cached(rows: int, kind: Kind = "csv") -> Path:
    """The file of so many rows in the user's cache folder, written when it is not there yet."""
    version = hashlib.sha256("".join(_template(kind)[:1000]).encode()).hexdigest()[:8]
    path = platformdirs.user_cache_path("csv2kafka") / "bench" / f"{rows}-rows-{version}.{kind}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        write(partial, rows, kind)
        partial.replace(path)
    return path


def expected_values(path: Path, rows: int | None = None) -> Iterator[bytes]:
    """What each row of a CSV file must become, by Python's csv and json: the standard for everything faster."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        columns = next(reader)
        for number, row in enumerate(filter(None, reader)):
            if number == rows:
                return
            yield encode(dict(zip(columns, row, strict=True))).encode()


def values(first_row: int, end_row: int, *, first_block: int = 1) -> Iterator[bytes]:
    """What rows `first_row` (from 0) to before `end_row` of a file by `write` must become, at the disk's speed."""
    whole_block = "".join(_template("json")).encode()
    for start in range(first_row - first_row % BLOCK_ROWS, end_row, BLOCK_ROWS):
        block = whole_block.replace(_BLOCK_NUMBER.encode(), b"%d" % (first_block + start // BLOCK_ROWS))
        yield from block.splitlines()[max(0, first_row - start) : end_row - start]


@functools.cache
def _template(kind: Kind) -> list[str]:
    """The rows of one block, each with its line end; `#` stands for the block's number."""
    rng = random.Random(20260101)
    rows = [_row(rng, number) for number in range(BLOCK_ROWS)]
    if kind == "csv":
        return rows
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    reader = csv.DictReader(io.StringIO(HEADER + "".join(rows), newline=""))
    return [encode(row) + "\n" for row in reader]


def _row(rng: random.Random, number: int) -> str:
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
    name = f"{first} {last}"
    if number % 50 == 1:
        name = f'"{last}, {first}"'
    elif number % 100 == 2:
        name = f"Zoë {last}"
    elif number % 1000 == 3:
        name = f'"{first} ""{last[:2]}""\n{last}"'
    row_id = f"{_BLOCK_NUMBER}{number:05}"
    hours, seconds = divmod(number % 86_400, 3600)
    timestamp = f"2026-01-01T{hours:02}:{seconds // 60:02}:{seconds % 60:02}Z"
    return f"{row_id},{name},{first[0].lower()}{row_id}@example.org,{rng.random() * 1000:.2f},{timestamp}\n"
