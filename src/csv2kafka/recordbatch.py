"""Kafka's RecordBatch v2 (KIP-98): header, checksum, compression, and the way back. Pure: bytes in, bytes out."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cramjam
import lz4.frame
from crc32c import crc32c

from csv2kafka.model import Batch

HEADER_BYTES = 61
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

_HEADER = struct.Struct(">qiibIhiqqqhii")
_CHECKED = struct.Struct(">hiqqqhii")  # the header's part that the checksum covers, with the records behind it
_LENGTH_AT = 12  # batchLength counts what follows it
_CRC_END = 21
_CODEC_BITS = 0x07
_CONTROL_BIT = 0x20
_MAX_INT32 = 2**31 - 1

_XERIAL = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """A batch as it lies in the log. `next_offset` is the offset behind its last record."""

    base_offset: int
    size_bytes: int  # the whole batch, this header included
    codec: int
    is_control: bool
    last_offset_delta: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    rows: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """-1 for control batches and batches without a producer id; sequences wrap behind 2^31 - 1."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & _MAX_INT32


def seal(batch: Batch, producer_id: int, producer_epoch: int, base_sequence: int, timestamp_ms: int) -> bytes:
    """The batch as it goes over the wire, under one producer epoch and sequence; equal arguments give equal bytes."""
    checked = _CHECKED.pack(
        batch.codec,
        batch.rows - 1,
        timestamp_ms,
        timestamp_ms,
        producer_id,
        producer_epoch,
        base_sequence,
        batch.rows,
    )
    crc = crc32c(batch.records, crc32c(checked))
    length = HEADER_BYTES - _LENGTH_AT + len(batch.records)
    return b"".join((struct.pack(">qiibI", 0, length, -1, 2, crc), checked, batch.records))


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """CRC32C of `data` behind data whose checksum is `before`."""
    return int(crc32c(data, before))


def headers(data: bytes) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The whole batches of a Fetch answer with their records as they are; a last batch cut short is left out.

    Raises ValueError for a batch of a message format before v2 (Kafka 4 no longer stores those).
    """
    view = memoryview(data)
    at = 0
    while at + HEADER_BYTES <= len(view):
        fields = _HEADER.unpack_from(view, at)
        base_offset, length, _leader_epoch, magic = fields[:4]
        end = at + _LENGTH_AT + length
        if end > len(view):
            return
        if magic != 2:
            raise ValueError(f"the batch at offset {base_offset} has message format {magic}, not 2")
        attributes, last_delta, _base_ms, max_ms, producer_id, producer_epoch, sequence, rows = fields[5:]
        yield (
            BatchHeader(
                base_offset,
                end - at,
                attributes & _CODEC_BITS,
                bool(attributes & _CONTROL_BIT),
                last_delta,
                max_ms,
                producer_id,
                producer_epoch,
                sequence,
                rows,
            ),
            view[at + HEADER_BYTES : end],
        )
        at = end


def frame(offset_delta: int, value: bytes, headers: Iterable[tuple[str, bytes]]) -> bytes:
    """A record without a key, at its place in a batch."""
    pairs = list(headers)
    framed = b"".join(map(with_length, (part for name, content in pairs for part in (name.encode(), content))))
    body = b"\0\0" + varint(offset_delta) + varint(-1) + with_length(value) + varint(len(pairs)) + framed
    return with_length(body)


def bodies(records: bytes) -> list[bytes]:
    """Of each framed record its key, value and headers as they are framed, without its place in the batch."""
    found = []
    at = 0
    while at < len(records):
        body, _, at = record_at(records, at)
        found.append(body)
    return found


def record_at(records: bytes | memoryview, at: int) -> tuple[bytes, int, int]:
    """(body as of `bodies`, offset in its batch, end) of the framed record that begins at `at`."""
    length, at = _read_varint(records, at)
    end = at + length
    _, at = _read_varint(records, at + 1)  # behind the attributes: the timestamp
    offset_delta, at = _read_varint(records, at)
    return bytes(records[at:end]), offset_delta, end


def unframe(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """(value, headers) of one of the bodies of a record without nulls."""
    key_bytes, at = _read_varint(body, 0)
    value, at = _read_bytes(body, at + max(0, key_bytes))
    count, at = _read_varint(body, at)
    headers = {}
    for _ in range(count):
        name, at = _read_bytes(body, at)
        headers[name.decode()], at = _read_bytes(body, at)
    return value, headers


def value_of(body: bytes) -> bytes | None:
    """The value in one of the bodies; None for a null."""
    key_bytes, at = _read_varint(body, 0)
    value_bytes, at = _read_varint(body, at + max(0, key_bytes))
    return None if value_bytes < 0 else body[at : at + value_bytes]


def with_length(content: bytes) -> bytes:
    return varint(len(content)) + content


def varint(value: int) -> bytes:
    """The zigzag varint of a number of at most 63 bits."""
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_varint(data, at)
    return data[at : at + length], at + length


def _read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def _lz4(data: memoryview) -> bytes:
    # Kafka refuses frames whose blocks depend on each other; its own clients write blocks of 64 KiB as well.
    packed: bytes = lz4.frame.compress(
        data, block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX64KB, store_size=False
    )
    return packed


def _snappy(data: memoryview) -> bytes:
    pieces = [_XERIAL]
    for at in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + _XERIAL_BLOCK_BYTES]))
        pieces += (struct.pack(">i", len(block)), block)
    return b"".join(pieces)


def _unsnappy(data: memoryview) -> bytes:
    at = len(_XERIAL)
    pieces = []
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        pieces.append(bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size])))
        at += 4 + size
    return b"".join(pieces)


_COMPRESS: dict[int, Callable[[memoryview], bytes]] = {
    0: bytes,
    1: lambda data: bytes(cramjam.gzip.compress(data, 1)),
    2: _snappy,
    3: _lz4,
    4: lambda data: bytes(cramjam.zstd.compress(data, 1)),
}
_DECOMPRESS: dict[int, Callable[[memoryview], bytes]] = {
    0: bytes,
    1: gzip.decompress,
    2: _unsnappy,
    3: lambda data: bytes(lz4.frame.decompress(data)),
    4: lambda data: bytes(cramjam.zstd.decompress(data)),
}


def compress(codec: int, records: memoryview) -> bytes:
    """Framed records as a broker accepts them under this codec (a value of CODECS)."""
    return _COMPRESS[codec](records)


def decompress(codec: int, records: memoryview) -> bytes:
    """The framed records of a batch of our own."""
    return _DECOMPRESS[codec](records)
