"""Rows from many places of a file, by a few ranged reads; and how many rows that makes of the whole.

A place in the middle of a file may lie within quotes or outside. Both are tried, and the place counts only where the
rows that follow have the right number of fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from csv2kafka import slowcsv
from csv2kafka.csvkernel import PADDING, scan_rows
from csv2kafka.model import Dialect, Header
from csv2kafka.sources import Source

HEAD_BYTES = 1 << 20
PLACES = 32
PLACE_BYTES = 64 << 10
_BEGINNINGS = ((0, False), (0, True), (1, True))  # outside of quotes, within, or right before an opening one
_SURE = 1.96  # standard errors, for 95 %


@dataclass(frozen=True, slots=True)
class Place:
    """Whole rows that follow each other, and their text."""

    rows: list[tuple[str, ...]]
    text: bytes


@dataclass(frozen=True, slots=True)
class Samples:
    """The first place is the file's beginning. `text_bytes` None: not known before all of it is read."""

    places: list[Place]
    lost_places: int  # at which no rows could be made out
    sampled_bytes: int
    text_bytes: int | None

    @property
    def is_all(self) -> bool:
        return self.text_bytes is not None and self.sampled_bytes >= self.text_bytes

    def rows(self) -> tuple[int, int] | None:
        """(about how many rows the file has, by how many that may be wrong, 95 % sure); None where nothing tells."""
        counts = [(len(place.rows), len(place.text)) for place in self.places if place.rows]
        rows, size_bytes = sum(count for count, _ in counts), sum(size for _, size in counts)
        if self.is_all:
            return rows, 0
        if self.text_bytes is None or not rows:
            return None
        per_byte = rows / size_bytes
        total = round(per_byte * self.text_bytes)
        if len(counts) < 2:
            return total, total
        spread = sum((count - per_byte * size) ** 2 for count, size in counts) * len(counts) / (len(counts) - 1)
        return total, math.ceil(_SURE * math.sqrt(spread) / size_bytes * self.text_bytes)


def sample(source: Source, header: Header, size_bytes: int | None, dialect: Dialect) -> Samples:
    """Look at the beginning and (where `size_bytes` of plain text are known) at places all over the file."""
    is_small = size_bytes is not None and size_bytes < 2 * (HEAD_BYTES + PLACES * PLACE_BYTES)
    head, is_all = _head(source, header.end_byte, most_bytes=size_bytes or 0 if is_small else HEAD_BYTES)
    places = [_whole_rows(head, dialect, in_quotes=False, final=is_all)]
    sampled_bytes = header.end_byte + len(head)
    lost = 0
    if size_bytes is not None and not is_all:
        for at in _places(sampled_bytes, size_bytes):
            place = _rows_at(source.read_at(at, PLACE_BYTES), dialect, len(header.columns))
            if place is None:
                lost += 1
            else:
                places.append(place)
                sampled_bytes += PLACE_BYTES
    return Samples(places, lost, sampled_bytes, sampled_bytes if is_all else size_bytes)


def _head(source: Source, start: int, most_bytes: int) -> tuple[bytes, bool]:
    """The first bytes behind the header, and whether they are all."""
    pieces: list[bytes] = []
    with closing(source.read_from(start)) as chunks:
        for chunk in chunks:
            pieces.append(bytes(chunk))
            if sum(map(len, pieces)) > most_bytes:
                return b"".join(pieces)[:most_bytes], False
    return b"".join(pieces), True


def _places(start: int, size_bytes: int) -> Iterator[int]:
    """Evenly spread beginnings of samples; the last sample ends with the file."""
    last = size_bytes - PLACE_BYTES
    yield from sorted({start + (last - start) * number // (PLACES - 1) for number in range(PLACES)})


def _rows_at(data: bytes, dialect: Dialect, count: int) -> Place | None:
    """The rows in the data, which begin anywhere: None where it cannot be told how."""
    for at, in_quotes in _BEGINNINGS if dialect.quote.encode() in data else _BEGINNINGS[:1]:
        place = _whole_rows(data[at:], dialect, in_quotes=in_quotes, final=False, is_cut=True)
        if place.rows and all(len(row) == count for row in place.rows):
            return place
    return None


def _whole_rows(data: bytes, dialect: Dialect, *, in_quotes: bool, final: bool, is_cut: bool = False) -> Place:
    """The rows that are whole; `is_cut`: the first one may lack its beginning."""
    src = np.frombuffer(data + bytes(PADDING), np.uint8)
    delimiter, quote, escape = ord(dialect.delimiter), ord(dialect.quote), dialect.escape_byte
    start = 0
    if is_cut:
        _, start, _, _ = scan_rows(src, 0, len(data), -1, in_quotes, False, delimiter, quote, escape, 1)
        start = max(start, 0)
        if not start:
            return Place([], b"")
    _, end, _, _ = scan_rows(src, start, len(data), start, False, final, delimiter, quote, escape, 1 << 62)
    if final:
        end = len(data)
    rows = slowcsv.rows(data[start:end].decode("utf-8", "replace"), dialect)
    return Place([row for row in rows if row], data[start:end])
