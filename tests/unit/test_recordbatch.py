"""RecordBatch v2: what we seal is read back by us and by others' parsers, under every codec."""

from __future__ import annotations

import random
import struct
from typing import Any

import lz4.frame
import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaBatch
from kafka.record.default_records import DefaultRecordBatch as KafkaPythonBatch

from csv2kafka.model import Batch
from csv2kafka.recordbatch import CODECS, HEADER_BYTES, BatchHeader, compress, decompress, headers, seal
from tests.support import csv_oracle

PRODUCER = {
    "producer_id": 7_000_000_001,
    "producer_epoch": 9,
    "base_sequence": 123_456,
    "timestamp_ms": 1_790_000_000_123,
}


def values(count: int) -> list[bytes]:
    """JSON that compresses as rows do, several compressed blocks of it."""
    rng = random.Random(3)
    return [b'{"id":"%d","name":"Customer %d"}' % (row, rng.randrange(1 << 60)) for row in range(count)]


def framed(rows: list[bytes]) -> bytes:
    return b"".join(csv_oracle.frame_record(value, number) for number, value in enumerate(rows))


def batch_of(rows: list[bytes], codec: int = 0) -> Batch:
    records = framed(rows)
    packed = compress(codec, memoryview(records))
    return Batch(0, len(rows), codec, packed, len(records))


def crc32c_by_bits(data: bytes) -> int:
    """CRC-32C (Castagnoli) from its definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class TestSeal:
    def test_headers_round_trip(self) -> None:
        batch = batch_of(values(3))
        sealed = seal(batch, **PRODUCER)
        ((header, records),) = headers(sealed)
        assert header == BatchHeader(
            base_offset=0,
            size_bytes=HEADER_BYTES + len(batch.records),
            codec=0,
            is_control=False,
            last_offset_delta=2,
            max_timestamp_ms=PRODUCER["timestamp_ms"],
            producer_id=PRODUCER["producer_id"],
            producer_epoch=9,
            base_sequence=123_456,
            rows=3,
        )
        assert bytes(records) == batch.records
        assert (header.next_offset, header.last_sequence) == (3, 123_458)

    def test_equal_arguments_give_equal_bytes(self) -> None:
        batch = batch_of(values(100), CODECS["zstd"])
        assert seal(batch, **PRODUCER) == seal(batch, **PRODUCER)

    def test_every_field_lies_where_kip_98_puts_it(self) -> None:
        batch = batch_of(values(2), CODECS["lz4"])
        sealed = seal(batch, **PRODUCER)
        assert struct.unpack(">q", sealed[0:8]) == (0,)  # base offset
        assert struct.unpack(">i", sealed[8:12]) == (len(sealed) - 12,)
        assert struct.unpack(">i", sealed[12:16]) == (-1,)  # partition leader epoch
        assert sealed[16] == 2  # magic
        assert struct.unpack(">h", sealed[21:23]) == (3,)  # attributes: lz4, create time, no transaction, no control
        assert struct.unpack(">i", sealed[23:27]) == (1,)  # last offset delta
        assert struct.unpack(">qq", sealed[27:43]) == (PRODUCER["timestamp_ms"],) * 2
        assert struct.unpack(">qhi", sealed[43:57]) == (PRODUCER["producer_id"], 9, 123_456)
        assert struct.unpack(">i", sealed[57:61]) == (2,)

    def test_checksum_against_its_definition(self) -> None:
        assert crc32c_by_bits(b"123456789") == 0xE3069283  # the check value of the CRC catalogue
        sealed = seal(batch_of(values(20), CODECS["gzip"]), **PRODUCER)
        assert struct.unpack(">I", sealed[17:21]) == (crc32c_by_bits(sealed[21:]),)

    def test_sequences_wrap_behind_the_largest(self) -> None:
        largest = 2**31 - 1
        for base, last in [(largest - 2, largest), (largest - 1, 0), (largest, 1)]:
            ((header, _),) = headers(seal(batch_of(values(3)), 1, 0, base, 0))
            assert header.last_sequence == last


class TestHeaders:
    def test_several_batches_and_one_cut_short(self) -> None:
        sealed = [seal(batch_of(values(rows)), 1, 0, 0, 0) for rows in (1, 5, 2)]
        whole = b"".join(sealed)
        for cut in range(len(whole) + 1):
            ends = [len(b"".join(sealed[:count])) for count in (1, 2, 3)]
            rows = [header.rows for header, _ in headers(whole[:cut])]
            assert rows == [1, 5, 2][: sum(end <= cut for end in ends)]

    def test_a_control_batch_is_told(self) -> None:
        marker = Batch(0, 1, 0x20, b"marker", 6)
        ((header, records),) = headers(seal(marker, 8, 1, -1, 0))
        assert (header.is_control, header.codec, header.last_sequence) == (True, 0, -1)
        assert bytes(records) == b"marker"

    def test_offsets_of_a_batch_in_the_log(self) -> None:
        sealed = bytearray(seal(batch_of(values(4)), 1, 0, 0, 0))
        sealed[:8] = struct.pack(">q", 10_000_000_000)
        ((header, _),) = headers(bytes(sealed))
        assert (header.base_offset, header.next_offset) == (10_000_000_000, 10_000_000_004)

    def test_an_older_format_is_refused(self) -> None:
        sealed = bytearray(seal(batch_of(values(4)), 1, 0, 0, 0))
        sealed[16] = 1
        with pytest.raises(ValueError, match="message format 1"):
            list(headers(bytes(sealed)))

    def test_nothing(self) -> None:
        assert list(headers(b"")) == []


class TestCodecs:
    @pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
    @pytest.mark.parametrize("count", [1, 5000])
    def test_round_trip(self, codec: int, count: int) -> None:
        records = framed(values(count))
        assert decompress(codec, memoryview(compress(codec, memoryview(records)))) == records

    @pytest.mark.parametrize("name", [name for name in CODECS if name != "none"])
    def test_shrinks(self, name: str) -> None:
        records = framed(values(5000))
        assert len(compress(CODECS[name], memoryview(records))) < 0.7 * len(records)

    @pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
    @pytest.mark.parametrize("count", [1, 5000])
    def test_aiokafka_reads_it(self, codec: int, count: int) -> None:
        rows = values(count)
        batch: Any = AiokafkaBatch(bytearray(seal(batch_of(rows, codec), **PRODUCER)))
        assert batch.validate_crc()
        assert (batch.compression_type, batch.is_control_batch, batch.is_transactional) == (codec, False, False)
        records = list(batch)
        assert [record.value for record in records] == rows
        assert [record.offset for record in records] == list(range(count))
        assert {record.timestamp for record in records} == {PRODUCER["timestamp_ms"]}
        assert all(record.key is None and not record.headers for record in records)

    @pytest.mark.parametrize("name", ["none", "gzip", "lz4"])  # for the others kafka-python needs more packages
    def test_kafka_python_reads_it(self, name: str) -> None:
        rows = values(300)
        batch: Any = KafkaPythonBatch(seal(batch_of(rows, CODECS[name]), **PRODUCER))
        assert batch.validate_crc()
        assert [record.value for record in batch] == rows

    def test_lz4_blocks_are_independent_and_of_64_kib(self) -> None:
        records = framed(values(5000))
        packed = compress(CODECS["lz4"], memoryview(records))
        magic, flags, block = struct.unpack_from("<IBB", packed)
        assert magic == 0x184D2204
        assert flags >> 6 == 1  # version
        assert flags & 0x20  # independent blocks: a real broker refuses others
        assert (
            not flags & 0x08
        )  # no content size, so that the descriptor has two bytes, as Kafka's own clients write it
        assert block == 4 << 4  # at most 64 KiB each
        info = lz4.frame.get_frame_info(packed)
        assert (info["block_linked"], info["block_size"]) == (False, 64 * 1024)
        sizes = _lz4_block_sizes(packed)
        assert len(sizes) == -(-len(records) // (64 * 1024))

    def test_snappy_is_framed_as_java_reads_it(self) -> None:
        records = framed(values(5000))
        packed = compress(CODECS["snappy"], memoryview(records))
        assert packed[:16] == b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"
        at, out = 16, b""
        while at < len(packed):
            (size,) = struct.unpack_from(">i", packed, at)
            out += _unsnappy(packed[at + 4 : at + 4 + size])
            at += 4 + size
        assert out == records


def _lz4_block_sizes(frame: bytes) -> list[int]:
    """The compressed blocks' sizes, by the frame format: a header of 4 + 2 + 1 bytes, each block behind its size."""
    at = 7
    sizes: list[int] = []
    while True:
        (size,) = struct.unpack_from("<I", frame, at)
        if not size:
            return sizes
        sizes.append(size & 0x7FFFFFFF)
        at += 4 + sizes[-1]


def _unsnappy(block: bytes) -> bytes:
    """One raw snappy block, by its format description: a length, then literals and copies."""
    at = 0
    while block[at] & 0x80:
        at += 1
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(block[: at + 1]))
    at += 1
    out = bytearray()
    while at < len(block):
        tag = block[at]
        at += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(block[at : at + extra], "little")
                at += extra
            out += block[at : at + size + 1]
            at += size + 1
            continue
        if tag & 3 == 1:
            size, offset = (tag >> 2 & 7) + 4, tag >> 5 << 8 | block[at]
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(block[at : at + width], "little")
            at += width
        for _ in range(size):
            out.append(out[-offset])
    assert len(out) == length
    return bytes(out)
