"""What a row becomes beyond strings in JSON: types, nulls, keys, lanes, headers, CSV; and the record around the value.

Compiled, like all kernels. Without a plan a record is a JSON object of strings for the one lane, without key and
headers: kernels are compiled for that case on their own, so that it pays for nothing of what it does not use.
"""

from __future__ import annotations

from typing import NamedTuple

from csv2kafka.javahash import lane_of
from csv2kafka.kindkernel import BOOL, DATE, JSON, STRING, TIMESTAMP, fits, truth
from csv2kafka.simd import WIDTH, Bytes, Offsets, copy32, inlined_kernel, kernel
from csv2kafka.textkernel import (
    BAD_NULL,
    BAD_VALUE,
    COMMA,
    FULL,
    OK,
    QUOTE,
    equal,
    quote_for_csv,
    unescape,
)

AS_JSON, AS_CSV, AS_RAW = range(3)

# What is to be done with a column's text, in Plan.todo; 0: nothing but to close its quotes.
KIND = 0x0F
DROPPED = 0x10
EMPTY_IS_NULL = 0x20
EMPTY_IS_BAD = 0x40
NULL_IS_BAD = 0x80
CHECKS_NULL = 0x100
IS_KEY = 0x200
TO_CSV = 0x400
STANDS_ALONE = 0x800  # the only column of a CSV record: nothing would be a blank line

# Places in Plan.notes.
BAD_COLUMN, KEY_END, RECORDS, FIRST_ROW, FIRST_BYTE = range(5)
NOTES = 5

_LANE_SHIFT = 32  # Plan.placed: the lane above the record's length


class Plan(NamedTuple):
    """What the kernel is to do for one shape of records, and its scratch memory: one plan for each thread."""

    escape: int  # -1: none
    value_format: int
    todo: Offsets  # for each column
    null: Bytes  # the null value as JSON text
    null_bytes: int  # -1: there is none
    key_slot: Offsets  # for each column: its place in the key, or -1
    key_at: Offsets  # for each part of the key: start and end in `key`
    key: Bytes  # scratch
    headers: Bytes  # their number, those that are always the same, then the names of the two that are not
    headers_at: Offsets  # where those three begin, and the end; equal where rows do not tell where they come from
    skip: Offsets  # for each lane: records still to be left out
    take: Offsets  # for each lane: records still wanted behind those
    lane_rows: Offsets  # for each lane: records written
    placed: Offsets  # for each record its lane and length, where there are several lanes
    depths: Bytes  # scratch
    notes: Offsets


@inlined_kernel
def finish_field(dst: Bytes, start: int, end: int, column: int, plan: Plan) -> tuple[int, int]:
    """Make of the JSON text `dst[start:end]` what the plan says for its column; return (new end, status)."""
    todo = plan.todo[column]
    if todo == 0:
        dst[end] = QUOTE
        return end + 1, OK
    return _finish(dst, start, end, column, plan)


@inlined_kernel
def _finish(dst: Bytes, start: int, end: int, column: int, plan: Plan) -> tuple[int, int]:
    todo = plan.todo[column]
    if todo & IS_KEY and not _keep_for_key(dst, start, end, plan.key_slot[column], plan):
        return end, FULL
    is_null = False
    if end == start:
        if todo & EMPTY_IS_BAD:
            plan.notes[BAD_COLUMN] = column
            return end, BAD_NULL
        is_null = todo & EMPTY_IS_NULL != 0
    if todo & CHECKS_NULL and end - start == plan.null_bytes and equal(dst, start, plan.null, end - start):
        if todo & NULL_IS_BAD:
            plan.notes[BAD_COLUMN] = column
            return end, BAD_NULL
        is_null = True
    kind = todo & KIND
    if kind != STRING and not is_null:
        if kind == JSON:
            end = unescape(dst, start, end)
        if not fits(kind, dst, start, end, plan.depths):
            plan.notes[BAD_COLUMN] = column
            return end, BAD_VALUE
    if todo & DROPPED:
        return start, OK
    if todo & TO_CSV:
        if kind != JSON or is_null:  # else unescaped above, and what is left of escapes is JSON's own
            end = unescape(dst, start, end)
        return _as_csv(dst, start, end, todo), OK
    return _as_json(dst, start, end, kind, is_null), OK


@kernel
def _as_csv(dst: Bytes, start: int, end: int, todo: int) -> int:
    if end == start and todo & STANDS_ALONE:
        dst[start] = QUOTE
        dst[start + 1] = QUOTE
        return start + 2
    return quote_for_csv(dst, start, end)


@kernel
def _as_json(dst: Bytes, start: int, end: int, kind: int, is_null: bool) -> int:
    """Strings stand behind an opening quote, everything else behind the colon."""
    is_quoted = kind in (STRING, DATE, TIMESTAMP)
    if is_null:
        start -= is_quoted
        dst[start] = 0x6E
        dst[start + 1] = 0x75
        dst[start + 2] = 0x6C
        dst[start + 3] = 0x6C
        return start + 4
    if is_quoted:
        dst[end] = QUOTE
        return end + 1
    if kind == BOOL:
        return _put_truth(dst, start, truth(dst, start, end))
    return end


@kernel
def _put_truth(dst: Bytes, at: int, is_true: int) -> int:
    if is_true:
        dst[at] = 0x74
        dst[at + 1] = 0x72
        dst[at + 2] = 0x75
        dst[at + 3] = 0x65
        return at + 4
    dst[at] = 0x66
    dst[at + 1] = 0x61
    dst[at + 2] = 0x6C
    dst[at + 3] = 0x73
    dst[at + 4] = 0x65
    return at + 5


@inlined_kernel
def _keep_for_key(dst: Bytes, start: int, end: int, slot: int, plan: Plan) -> bool:
    """Copy a field's JSON text behind the other fields of the row's key. False: there is no room."""
    out = plan.notes[KEY_END]
    # Room for the quotes and commas around all of them, and for the vectors that read and write beyond the end.
    if out + (end - start) > plan.key.size - 2 * WIDTH - 4 * plan.key_at.size:
        return False
    copied = 0
    while copied < end - start:
        copy32(plan.key, out + copied, dst, start + copied)
        copied += WIDTH
    plan.key_at[2 * slot] = out
    plan.key_at[2 * slot + 1] = out + (end - start)
    plan.notes[KEY_END] = out + (end - start)
    return True


@inlined_kernel
def _finish_key(plan: Plan) -> tuple[int, int]:
    """(start, end) of the row's key in `plan.key`: the one field's text, or a JSON array of several. -1: no room."""
    parts = plan.key_at.size // 2
    if parts == 1:
        start = plan.key_at[0]
        return start, unescape(plan.key, start, plan.key_at[1])
    start = plan.notes[KEY_END]
    out = start
    if 2 * start + 4 * parts > plan.key.size - WIDTH:
        return -1, -1
    for part in range(parts):
        plan.key[out] = COMMA if part else 0x5B
        plan.key[out + 1] = QUOTE
        out += 2
        for i in range(plan.key_at[2 * part], plan.key_at[2 * part + 1]):
            plan.key[out] = plan.key[i]
            out += 1
        plan.key[out] = QUOTE
        out += 1
    plan.key[out] = 0x5D
    return start, out + 1


@kernel
def varint_bytes(value: int) -> int:
    """Length of the zigzag varint of a value that is not negative."""
    length = 1
    value >>= 6
    while value:
        length += 1
        value >>= 7
    return length


@kernel
def put_varint(dst: Bytes, at: int, value: int) -> int:
    value <<= 1
    while value >= 0x80:
        dst[at] = value & 0x7F | 0x80
        value >>= 7
        at += 1
    dst[at] = value
    return at + 1


@kernel
def _put_decimal(dst: Bytes, at: int, value: int) -> int:
    digits = _decimal_digits(value)
    end = at + digits
    for i in range(end - 1, at - 1, -1):
        dst[i] = 0x30 + value % 10
        value //= 10
    return end


@kernel
def _decimal_digits(value: int) -> int:
    digits = 1
    while value >= 10:
        digits += 1
        value //= 10
    return digits


@inlined_kernel
def _move(dst: Bytes, start: int, end: int, shift: int) -> None:
    """Move `dst[start:end]`; what lies behind the new end is not kept."""
    if shift > 0:
        for i in range(end - 1, start - 1, -1):
            dst[i + shift] = dst[i]
    elif shift < 0:
        for i in range(start, end, WIDTH):
            copy32(dst, i + shift, dst, i)


@kernel
def frame(dst: Bytes, at: int, value_at: int, value_end: int, offset_delta: int) -> tuple[int, int]:
    """Put the record header (KIP-98: no key, no headers) before the value; return (record end, header length)."""
    value_bytes = value_end - value_at
    body_bytes = 4 + varint_bytes(offset_delta) + varint_bytes(value_bytes) + value_bytes
    header = 3 + varint_bytes(body_bytes) + varint_bytes(offset_delta) + varint_bytes(value_bytes)
    _move(dst, value_at, value_end, at + header - value_at)
    at = put_varint(dst, at, body_bytes)
    dst[at] = 0  # attributes
    dst[at + 1] = 0  # timestamp delta
    at = put_varint(dst, at + 2, offset_delta)
    dst[at] = 1  # key length -1: no key
    at = put_varint(dst, at + 1, value_bytes) + value_bytes
    dst[at] = 0  # number of headers
    return at + 1, header


@inlined_kernel
def frame_planned(
    dst: Bytes, at: int, value_at: int, value_end: int, row: int, row_byte: int, plan: Plan
) -> tuple[int, int, int]:
    """Make the value a record of its lane, unless that is to leave it out; return (end, header length, status).

    The record has its key before and its headers behind the value. `row_byte`: where the row begins in its block.
    """
    lane = 0
    key_at = 0
    key_end = 0
    has_key = plan.key_at.size > 0
    if has_key:
        key_at, key_end = _finish_key(plan)
        if key_at < 0:
            return at, 0, FULL
        if plan.skip.size > 1:
            lane = lane_of(plan.key, key_at, key_end, plan.skip.size)
    header = value_at - at
    if plan.skip[lane] > 0:
        plan.skip[lane] -= 1
        return at, header, OK
    if plan.take[lane] == 0:
        return at, header, OK
    key_bytes = key_end - key_at
    value_bytes = value_end - value_at
    offset_delta = plan.lane_rows[lane]
    head_bytes = 2 + varint_bytes(offset_delta) + varint_bytes(key_bytes) + key_bytes + varint_bytes(value_bytes)
    body_bytes = head_bytes + value_bytes + _headers_bytes(row, row_byte, plan)
    header = varint_bytes(body_bytes) + head_bytes
    total = varint_bytes(body_bytes) + body_bytes
    if at + total > dst.size - 2 * WIDTH or not _place(lane, total, plan):
        return at, header, FULL
    plan.take[lane] -= 1
    plan.lane_rows[lane] += 1
    _move(dst, value_at, value_end, at + header - value_at)
    out = put_varint(dst, at, body_bytes)
    dst[out] = 0  # attributes
    dst[out + 1] = 0  # timestamp delta
    out = put_varint(dst, out + 2, offset_delta)
    if has_key:
        out = put_varint(dst, out, key_bytes)
        for i in range(key_at, key_end):
            dst[out] = plan.key[i]
            out += 1
    else:
        dst[out] = 1  # key length -1: no key
        out += 1
    out = put_varint(dst, out, value_bytes) + value_bytes
    # A little more than was needed: moving the next value down is cheaper than moving it up.
    return _put_headers(dst, out, row, row_byte, plan), header + 4, OK


@inlined_kernel
def _place(lane: int, total: int, plan: Plan) -> bool:
    """Note where the next record belongs. False: there is no room."""
    record = plan.notes[RECORDS]
    if plan.skip.size > 1:
        if record >= plan.placed.size:
            return False
        plan.placed[record] = lane << _LANE_SHIFT | total
    plan.notes[RECORDS] = record + 1
    return True


@inlined_kernel
def _headers_bytes(row: int, row_byte: int, plan: Plan) -> int:
    fixed = plan.headers_at[3] - plan.headers_at[0]
    if plan.headers_at[3] == plan.headers_at[1]:
        return int(fixed)
    offset_digits = _decimal_digits(plan.notes[FIRST_BYTE] + row_byte)
    return int(fixed + offset_digits + _decimal_digits(plan.notes[FIRST_ROW] + row + 1) + 2)


@inlined_kernel
def _put_headers(dst: Bytes, out: int, row: int, row_byte: int, plan: Plan) -> int:
    """All headers of a record, their number first. Digits are fewer than 64: the length of each number is one byte."""
    out = _put_part(dst, out, 0, plan)
    if plan.headers_at[3] == plan.headers_at[1]:
        return out
    out = _put_part(dst, out, 1, plan)
    offset = plan.notes[FIRST_BYTE] + row_byte
    out = _put_decimal(dst, put_varint(dst, out, _decimal_digits(offset)), offset)
    out = _put_part(dst, out, 2, plan)
    number = plan.notes[FIRST_ROW] + row + 1
    return _put_decimal(dst, put_varint(dst, out, _decimal_digits(number)), number)


@inlined_kernel
def _put_part(dst: Bytes, out: int, part: int, plan: Plan) -> int:
    for i in range(plan.headers_at[part], plan.headers_at[part + 1]):
        dst[out] = plan.headers[i]
        out += 1
    return out


@kernel
def gather(records: Bytes, placed: Offsets, count: int, lane_end: Offsets, out: Bytes) -> None:
    """Copy `count` records to their lanes' places in `out`, in order; `lane_end`: where each lane begins, then ends.

    `out` has WIDTH bytes to spare behind each lane.
    """
    at = 0
    for record in range(count):
        lane = placed[record] >> _LANE_SHIFT
        total = placed[record] & (1 << _LANE_SHIFT) - 1
        start = lane_end[lane]
        copied = 0
        while copied < total:
            copy32(out, start + copied, records, at + copied)
            copied += WIDTH
        lane_end[lane] = start + total
        at += total
