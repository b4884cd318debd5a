"""A record's shape -> what the kernel needs for it: prefixes before the fields, and the plan where there is one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from csv2kafka import kindkernel, recordkernel
from csv2kafka.csvkernel import PADDING
from csv2kafka.model import Dialect, Field, Kind, RecordShape
from csv2kafka.recordbatch import varint, with_length
from csv2kafka.recordkernel import Plan
from csv2kafka.simd import Bytes, Offsets

NO_LIMIT = 1 << 62
_FORMATS = {"json": recordkernel.AS_JSON, "csv": recordkernel.AS_CSV, "raw": recordkernel.AS_RAW}
_KINDS = {kind: getattr(kindkernel, kind.name) for kind in Kind}
_QUOTED = {Kind.STRING, Kind.DATE, Kind.TIMESTAMP}
_SMALLEST_RECORD_BYTES = 7
_OFFSET, _ROW = b"file.offset", b"csv.row"


def fields_of(shape: RecordShape) -> tuple[Field, ...]:
    """What becomes of each column, also where the shape leaves it open."""
    return shape.fields if shape.fields is not None else tuple(map(Field, shape.columns))


def is_plain(shape: RecordShape) -> bool:
    """Whether records are nothing but JSON objects of strings, which need no plan."""
    plain = RecordShape(shape.columns, Dialect(shape.dialect.delimiter, shape.dialect.quote))
    return shape == replace(plain, naming=shape.naming, text=shape.text, part=shape.part)


def prefixes_of(shape: RecordShape, *, planned: bool) -> tuple[Bytes, Offsets]:
    """What stands before each field, and where each begins (and the last ends)."""
    texts: list[bytes] = []
    for field in fields_of(shape):
        is_first = not any(texts)
        if field.dropped or shape.value_format == "raw":
            texts.append(b"")
        elif shape.value_format == "csv":
            texts.append(b"," if _kept_before(shape, len(texts)) else b"")
        else:
            name = json.dumps(field.name, ensure_ascii=False) + ":" + '"' * (field.kind in _QUOTED)
            texts.append((("{" if is_first else "," if planned else '",') + name).encode())
    text = b"".join(texts) + bytes(PADDING)
    return np.frombuffer(text, np.uint8), np.cumsum([0, *map(len, texts)], dtype=np.int64)


def make_plan(shape: RecordShape, lanes: int, buffer_bytes: int) -> Plan:
    """A plan with scratch memory for an output buffer of this size."""
    escape = -1 if shape.dialect.escape is None else ord(shape.dialect.escape)
    null = None if shape.null_value is None else json.dumps(shape.null_value, ensure_ascii=False)[1:-1].encode()
    slots = {column: slot for slot, column in enumerate(shape.key)}
    names = shape.columns
    headers, headers_at = _headers(shape)
    return Plan(
        escape=escape,
        value_format=_FORMATS[shape.value_format],
        todo=np.array([_todo(shape, number) for number in range(len(names))], np.int64),
        null=np.frombuffer((null or b"") + bytes(PADDING), np.uint8),
        null_bytes=-1 if null is None else len(null),
        key_slot=np.array([slots.get(name, -1) for name in names], np.int64),
        key_at=np.zeros(2 * len(slots), np.int64),
        key=np.empty(buffer_bytes if slots else 0, np.uint8),
        headers=headers,
        headers_at=headers_at,
        skip=np.zeros(lanes, np.int64),
        take=np.full(lanes, NO_LIMIT, np.int64),
        lane_rows=np.zeros(lanes, np.int64),
        placed=np.empty(buffer_bytes // _SMALLEST_RECORD_BYTES if lanes > 1 else 0, np.int64),
        depths=np.empty(kindkernel.MAX_DEPTH, np.uint8),
        notes=np.zeros(recordkernel.NOTES, np.int64),
    )


def _kept_before(shape: RecordShape, number: int) -> bool:
    return not all(field.dropped for field in fields_of(shape)[:number])


def _todo(shape: RecordShape, number: int) -> int:
    fields = fields_of(shape)
    field = fields[number]
    todo = int(_KINDS[field.kind])
    if field.dropped or shape.value_format == "raw":
        todo |= recordkernel.DROPPED
    elif shape.value_format == "csv":
        todo |= recordkernel.TO_CSV
        if sum(not other.dropped for other in fields) == 1:
            todo |= recordkernel.STANDS_ALONE
    if field.nullable:
        todo |= recordkernel.EMPTY_IS_NULL
    elif field.kind != Kind.STRING:
        todo |= recordkernel.EMPTY_IS_BAD
    if shape.null_value is not None:
        todo |= recordkernel.CHECKS_NULL
        if field.nullable is False:
            todo |= recordkernel.NULL_IS_BAD
    if shape.columns[number] in shape.key:
        todo |= recordkernel.IS_KEY
    return todo


def _headers(shape: RecordShape) -> tuple[Bytes, Offsets]:
    """Plan.headers and Plan.headers_at."""
    provenance = [] if shape.file_name is None else [("file.name", shape.file_name)]
    fixed = [*provenance, *shape.headers]
    count = len(fixed) + (2 if provenance else 0)
    parts = [
        varint(count) + b"".join(with_length(name.encode()) + with_length(value.encode()) for name, value in fixed)
    ]
    parts += [with_length(_OFFSET), with_length(_ROW)] if provenance else [b"", b""]
    return np.frombuffer(b"".join(parts) + bytes(PADDING), np.uint8), np.cumsum([0, *map(len, parts)], dtype=np.int64)
