"""The compiled comparison of framed records, whatever batches they lie in: key, value and headers, not places."""

from __future__ import annotations

from csv2kafka.simd import Bytes, inlined_kernel, kernel


@kernel
def same_records(
    one: Bytes, at: int, one_end: int, other: Bytes, other_at: int, other_end: int
) -> tuple[int, int, int]:
    """Pass over records while they are the same; return (place in one, place in other, how many).

    Both places are then at their end, or at the first two records that differ.
    """
    same = at - at
    while at < one_end and other_at < other_end:
        body, next_at = record_body(one, at)
        other_body, other_next = record_body(other, other_at)
        if next_at - body != other_next - other_body:
            break
        differs = 0
        for i in range(next_at - body):  # without a way out, so that it becomes vector steps
            differs |= one[body + i] ^ other[other_body + i]
        if differs:
            break
        at, other_at = next_at, other_next
        same += 1
    return at, other_at, same


@inlined_kernel
def record_body(records: Bytes, at: int) -> tuple[int, int]:
    """Where key, value and headers of the record at `at` begin, and where it ends."""
    length, at = read_varint(records, at)
    end = at + length
    _, at = read_varint(records, at + 1)  # behind the attributes: the timestamp
    _, at = read_varint(records, at)  # the offset
    return at, end


@inlined_kernel
def read_varint(data: Bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of a zigzag varint."""
    value = 0
    shift = 0
    while True:
        byte = int(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
