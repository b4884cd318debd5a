"""What a CSV must become, told by Python's own csv and json modules, and a strict reader of framed Kafka records.

The reference against which the kernel is proven: nothing of the package may be imported here.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.support.record_oracle import BAD_NULL, BAD_VALUE, PLAIN, Recipe, Record, fault, record_of, to_json

csv.field_size_limit(sys.maxsize)

RAGGED = "ragged"
NOT_UTF8 = "not UTF-8"
UNCLOSED = "unclosed quote"
__all__ = [
    "BAD_NULL",
    "BAD_VALUE",
    "NOT_UTF8",
    "RAGGED",
    "UNCLOSED",
    "expect",
    "frame_record",
    "parse_records",
    "to_json",
]


@dataclass(frozen=True, slots=True)
class Stop:
    """The first row that cannot become a record: its number from 1 and its bytes, line end apart.

    `fields`: how many there are (RAGGED), or which one it is, from 0 (BAD_VALUE and BAD_NULL); else 0.
    """

    row: int
    start_byte: int
    end_byte: int
    why: str
    fields: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """`columns` is None for a header that must be refused.

    `extents` are the first byte and the end (line end apart) of every whole row of the file, those behind `stop` too;
    `unclosed` says that a last one, not among them, never ends. `outcomes` are what each of them comes to, and the
    last one as well.
    """

    columns: tuple[str, ...] | None
    header_end_byte: int = 0
    records: tuple[Record, ...] = ()
    extents: tuple[tuple[int, int], ...] = ()
    stop: Stop | None = None
    unclosed: bool = False
    outcomes: tuple[Record | Stop, ...] = ()

    @property
    def values(self) -> tuple[bytes, ...]:
        return tuple(record.value for record in self.records)


class _Lines:
    """Physical lines as a file opened with newline='' yields them, counting the bytes they came from."""

    def __init__(self, data: bytes, skip_lines: int) -> None:
        # Bytes that are no UTF-8 become lone surrogates, so that csv can go on and the row can be told.
        self._lines = io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
        self.taken_bytes = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        for _ in itertools.islice(self, skip_lines):
            pass

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.taken_bytes += len(line.encode("utf-8", "surrogateescape"))
            yield line


@dataclass(frozen=True, slots=True)
class _Marks:
    delimiter: str
    quote: str
    escape: str | None

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, escapechar=self.escape)

    def ends(self, record: bytes) -> bool:
        """Whether a line behind the record would be a row of its own, not the rest of it."""
        text = record.decode("utf-8", "surrogateescape") + "\nx"
        *_, last = self.rows(io.StringIO(text, newline=""))
        return last == ["x"]

    def is_closed(self, record: bytes) -> bool:
        """Whether the file may end behind the record: not within quotes. An escape may hang at the end."""
        return self.ends(record) or self.ends(record + b"z")

    def without_line_end(self, record: bytes) -> bytes:
        for line_end in (b"\r\n", b"\n", b"\r"):
            if record.endswith(line_end) and self.ends(record.removesuffix(line_end)):
                return record.removesuffix(line_end)
        return record


def expect(
    data: bytes, delimiter: str = ",", quote: str = '"', escape: str | None = None, recipe: Recipe = PLAIN
) -> Expected:
    """The records that the file `data` must become, by csv and json."""
    marks = _Marks(delimiter, quote, escape)
    lines = _Lines(data, recipe.skip_lines)
    first_byte = lines.taken_bytes
    rows = marks.rows(lines)
    columns = recipe.columns
    if recipe.has_header:
        columns = tuple(next(rows, ()))
        if not marks.is_closed(data[first_byte : lines.taken_bytes]):
            return Expected(None)
        if not all(map(_is_text, columns)):
            return Expected(None)
        if recipe.columns is not None:
            if not columns or len(columns) != len(recipe.columns):
                return Expected(None)
            columns = recipe.columns
    elif columns is None:
        columns = _numbered(data, recipe, marks)
    if not columns or not _good_header(columns):
        return Expected(None)
    return _read(data, lines, rows, columns, marks, recipe)


def _numbered(data: bytes, recipe: Recipe, marks: _Marks) -> tuple[str, ...]:
    """c1, c2 ... for the fields of the first row; nothing where that is none."""
    lines = _Lines(data, recipe.skip_lines)
    first_byte = lines.taken_bytes
    first = next((row for row in marks.rows(lines) if row), [])
    if not marks.is_closed(data[first_byte : lines.taken_bytes]) or not all(map(_is_text, first)):
        return ()
    return tuple(f"c{number}" for number in range(1, len(first) + 1))


def _read(
    data: bytes, lines: _Lines, rows: Iterator[list[str]], columns: tuple[str, ...], marks: _Marks, recipe: Recipe
) -> Expected:
    header_end_byte = before = lines.taken_bytes
    outcomes: list[Record | Stop] = []
    extents: list[tuple[int, int]] = []
    closed = True
    for fields in rows:
        start, before = before, lines.taken_bytes
        if not fields:  # a blank line, which DictReader passes over
            continue
        raw = data[start:before]
        closed = before < len(data) or marks.is_closed(raw)
        text = marks.without_line_end(raw) if closed else raw
        end = start + len(text)
        if closed:
            extents.append((start, end))
        number = len(outcomes) + 1
        why, count = _fault(fields, columns, recipe, closed=closed)
        stop = Stop(number, start, end, why, count)
        outcomes.append(stop if why else record_of(fields, columns, recipe, text, number, start))
    records = tuple(itertools.takewhile(lambda outcome: isinstance(outcome, Record), outcomes))
    first_bad = next((outcome for outcome in outcomes if isinstance(outcome, Stop)), None)
    return Expected(columns, header_end_byte, records, tuple(extents), first_bad, not closed, tuple(outcomes))


def _good_header(columns: tuple[str, ...]) -> bool:
    return all(columns) and len(set(columns)) == len(columns)


def _is_text(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(fields: list[str], columns: tuple[str, ...], recipe: Recipe, *, closed: bool) -> tuple[str, int]:
    """(why, number) of the first thing that is wrong with a row, from left to right."""
    if not closed:
        return UNCLOSED, 0
    rules = recipe.rules_for(len(columns))
    for number, (field, rule) in enumerate(zip(fields, rules, strict=False)):
        if not _is_text(field):
            return NOT_UTF8, 0
        if why := fault(field, rule, recipe):
            return why, number
    return (RAGGED, len(fields)) if len(fields) != len(columns) else ("", 0)


def frame_record(record: Record | bytes, offset_delta: int) -> bytes:
    """One record as KIP-98 draws it: no attributes, timestamp delta 0; bytes are a value without key and headers."""
    record = Record(record) if isinstance(record, bytes) else record
    key = _varint(-1) if record.key is None else _varint(len(record.key)) + record.key
    body = b"\0" + b"\0" + _varint(offset_delta) + key + _varint(len(record.value)) + record.value
    body += _varint(len(record.headers))
    for name, content in record.headers:
        body += _varint(len(name.encode())) + name.encode() + _varint(len(content)) + content
    return _varint(len(body)) + body


def parse_records(records: bytes) -> list[bytes]:
    """The values of records without key and headers, as `parse` reads them."""
    parsed = parse(records)
    assert all(record.key is None and record.headers == () for record in parsed)
    return [record.value for record in parsed]


def parse(records: bytes) -> list[Record]:
    """A batch's uncompressed records. Raises AssertionError for any byte that is not as it must be."""
    parsed: list[Record] = []
    at = 0
    while at < len(records):
        start = at
        body_bytes, at = _read_varint(records, at)
        end = at + body_bytes
        assert end <= len(records), f"record {len(parsed)} at {start} claims {body_bytes} bytes, beyond the end"
        assert records[at] == 0, f"record {len(parsed)} has attributes {records[at]}"
        timestamp_delta, at = _read_varint(records, at + 1)
        assert timestamp_delta == 0, f"record {len(parsed)} has timestamp delta {timestamp_delta}"
        offset_delta, at = _read_varint(records, at)
        assert offset_delta == len(parsed), f"record {len(parsed)} has offset delta {offset_delta}"
        key, at = _read_bytes(records, at)
        value, at = _read_bytes(records, at)
        assert value is not None, f"record {len(parsed)} has no value"
        header_count, at = _read_varint(records, at)
        headers = []
        for _ in range(header_count):
            name, at = _read_bytes(records, at)
            content, at = _read_bytes(records, at)
            assert name is not None
            assert content is not None
            headers.append((name.decode(), content))
        parsed.append(Record(value, key, tuple(headers)))
        assert at == end, f"record {len(parsed) - 1} ends at {at}, not at {end}"
    return parsed


def _read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _read_varint(data, at)
    assert length >= -1
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def _varint(value: int) -> bytes:
    rest = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    end = at
    while data[end] & 0x80:
        end += 1
    end += 1
    zigzag = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[at:end]))
    value = zigzag >> 1 if zigzag % 2 == 0 else ~(zigzag >> 1)
    assert data[at:end] == _varint(value), f"the varint {data[at:end].hex()} is longer than it need be"
    return value, end
