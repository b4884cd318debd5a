"""What a CSV must become, told by Python's own csv and json modules, and a strict reader of framed Kafka records.

The reference against which the kernel is proven: nothing of the package may be imported here.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

csv.field_size_limit(sys.maxsize)
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps makes one for each call

RAGGED = "ragged"
NOT_UTF8 = "not UTF-8"
UNCLOSED = "unclosed quote"


@dataclass(frozen=True, slots=True)
class Stop:
    """The first row that cannot become a record: its number from 1 and its bytes, line end apart.

    `fields` is 0 unless `why` is RAGGED.
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
    `unclosed` says that a last one, not among them, never ends.
    """

    columns: tuple[str, ...] | None
    header_end_byte: int = 0
    values: tuple[bytes, ...] = ()
    extents: tuple[tuple[int, int], ...] = ()
    stop: Stop | None = None
    unclosed: bool = False


class _Lines:
    """Physical lines as a file opened with newline='' yields them, counting the bytes they came from."""

    def __init__(self, data: bytes) -> None:
        # Bytes that are no UTF-8 become lone surrogates, so that csv can go on and the row can be told.
        self._lines = io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
        self.taken_bytes = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.taken_bytes += len(line.encode("utf-8", "surrogateescape"))
            yield line


def expect(data: bytes, delimiter: str = ",", quote: str = '"') -> Expected:
    """The records that the file `data` must become, by csv.DictReader and json."""
    lines = _Lines(data)
    first_byte = lines.taken_bytes
    reader: csv.DictReader[Any] = csv.DictReader(lines, delimiter=delimiter, quotechar=quote)
    columns = tuple(reader.fieldnames or ())
    header_end_byte = lines.taken_bytes
    if not _good_header(columns) or not _is_closed(data[first_byte:header_end_byte], delimiter, quote):
        return Expected(None)
    values: list[bytes] = []
    extents: list[tuple[int, int]] = []
    stop: Stop | None = None
    closed = True
    while True:
        before = lines.taken_bytes
        fields = next(reader, None)
        if fields is None:
            return Expected(columns, header_end_byte, tuple(values), tuple(extents), stop, not closed)
        raw = data[before : lines.taken_bytes].lstrip(b"\r\n")  # blank lines, which DictReader passes over
        start = lines.taken_bytes - len(raw)
        closed = lines.taken_bytes < len(data) or _is_closed(raw, delimiter, quote)
        end = start + len(_without_line_end(raw) if closed else raw)
        if closed:
            extents.append((start, end))
        if stop is None:
            why, count = _fault(fields, closed)
            if why:
                stop = Stop(len(values) + 1, start, end, why, count)
            else:
                values.append(to_json(fields).encode())


def _good_header(columns: tuple[str, ...]) -> bool:
    return bool(columns) and all(columns) and len(set(columns)) == len(columns) and all(map(_is_text, columns))


def _is_text(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_closed(record: bytes, delimiter: str, quote: str) -> bool:
    """Whether a line behind the record would be a row of its own, not the rest of a quoted field."""
    text = record.decode("utf-8", "surrogateescape") + "\nx"
    *_, last = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    return last == ["x"]


def _without_line_end(record: bytes) -> bytes:
    if record.endswith(b"\r\n"):
        return record[:-2]
    return record[:-1] if record.endswith((b"\n", b"\r")) else record


def _fault(row: dict[str | None, Any], closed: bool) -> tuple[str, int]:
    """(why, fields) of a row as csv.DictReader makes it: surplus fields under None, None for those that lack."""
    if not closed:
        return UNCLOSED, 0
    surplus = row.get(None, [])
    named = [field for name, field in row.items() if name is not None and field is not None]
    if not all(map(_is_text, named)):
        return NOT_UTF8, 0
    if surplus or None in row.values():
        return RAGGED, len(named) + len(surplus)
    return "", 0


def frame_record(value: bytes, offset_delta: int) -> bytes:
    """One record as KIP-98 draws it: no attributes, timestamp delta 0, no key, no headers."""
    body = b"\0" + b"\0" + _varint(offset_delta) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    return _varint(len(body)) + body


def parse_records(records: bytes) -> list[bytes]:
    """The values of a batch's uncompressed records. Raises AssertionError for any byte that is not as it must be."""
    values: list[bytes] = []
    at = 0
    while at < len(records):
        start = at
        body_bytes, at = _read_varint(records, at)
        end = at + body_bytes
        assert end <= len(records), f"record {len(values)} at {start} claims {body_bytes} bytes, beyond the end"
        assert records[at] == 0, f"record {len(values)} has attributes {records[at]}"
        timestamp_delta, at = _read_varint(records, at + 1)
        assert timestamp_delta == 0, f"record {len(values)} has timestamp delta {timestamp_delta}"
        offset_delta, at = _read_varint(records, at)
        assert offset_delta == len(values), f"record {len(values)} has offset delta {offset_delta}"
        key_bytes, at = _read_varint(records, at)
        assert key_bytes == -1, f"record {len(values)} has a key of {key_bytes} bytes"
        value_bytes, at = _read_varint(records, at)
        assert value_bytes >= 0, f"record {len(values)} has a value of {value_bytes} bytes"
        values.append(records[at : at + value_bytes])
        header_count, at = _read_varint(records, at + value_bytes)
        assert header_count == 0, f"record {len(values) - 1} has {header_count} headers"
        assert at == end, f"record {len(values) - 1} ends at {at}, not at {end}"
    return values


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
