"""Which partition a key belongs to: what Java's producer does without a partitioner of its own, compiled."""

from __future__ import annotations

from csv2kafka.simd import Bytes, kernel


@kernel
def murmur2(data: Bytes, start: int, end: int) -> int:
    """org.apache.kafka.common.utils.Utils.murmur2, as a number from 0 to 2^32 - 1."""
    mask = 0xFFFFFFFF
    factor = 0x5BD1E995
    result = 0x9747B28C ^ (end - start)
    at = start
    while at + 4 <= end:
        part = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16 | int(data[at + 3]) << 24
        part = part * factor & mask
        part = (part ^ part >> 24) * factor & mask
        result = result * factor & mask ^ part
        at += 4
    rest = end - at
    if rest > 2:
        result ^= int(data[at + 2]) << 16
    if rest > 1:
        result ^= int(data[at + 1]) << 8
    if rest > 0:
        result = (result ^ int(data[at])) * factor & mask
    result = (result ^ result >> 13) * factor & mask
    return result ^ result >> 15


@kernel
def lane_of(key: Bytes, start: int, end: int, lanes: int) -> int:
    """The partition that Java's producer gives this key in a topic of so many."""
    return (murmur2(key, start, end) & 0x7FFFFFFF) % lanes
