"""Block -> batches: contents, sizes, the bad rows' exact place, and that equal rows always make equal records."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import pytest

from csv2kafka.csvkernel import PADDING
from csv2kafka.encoder import Encoder
from csv2kafka.model import Batch, Block, Dialect, Portion, Position, RecordShape
from csv2kafka.recordbatch import CODECS, HEADER_BYTES, decompress
from tests.support import csv_oracle
from tests.support.setup import padded

NONE, LZ4, ZSTD = CODECS["none"], CODECS["lz4"], CODECS["zstd"]
START = Position(100, 5000)
COMMAS = Dialect()


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    encoder_of(["a"], NONE, 1 << 20).encode(block(b"1\n", 1))


def block(data: bytes, rows: int, start: Position = START) -> Block:
    return Block(padded(data), len(data), start, rows)


def encoder_of(columns: Sequence[str], codec: int, max_batch_bytes: int, dialect: Dialect = COMMAS) -> Encoder:
    return Encoder(RecordShape(tuple(columns), dialect), codec, max_batch_bytes)


def only(portion: Portion) -> Batch:
    """The one batch of the one lane."""
    (batch,) = portion.batches
    assert (batch.lane, batch.rows) == (0, portion.rows)
    return batch


def values(portion: Portion) -> list[bytes]:
    batch = only(portion)
    return csv_oracle.parse_records(decompress(batch.codec, memoryview(batch.records)))


def noise(size_bytes: int, seed: int = 11) -> bytes:
    """Text that no compressor makes shorter than three quarters of it."""
    rng = random.Random(seed)
    return bytes(
        rng.choice(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for _ in range(size_bytes)
    )


class TestRecords:
    def test_values_are_compact_json_in_header_order(self) -> None:
        data = b'1,"x ""y"""\r\n\n,\xc3\xa9\r'
        encoded = encoder_of(["z", "a"], NONE, 1 << 20).encode(block(data, 2))
        (portion,) = encoded.portions
        assert values(portion) == [b'{"z":"1","a":"x \\"y\\""}', '{"z":"","a":"é"}'.encode()]
        assert (portion.start, portion.end, encoded.bad) == (START, Position(102, 5000 + len(data)), None)

    def test_column_names_are_escaped_as_json(self) -> None:
        names = ['say "hi"', "back\\slash", "line\nend", "tab\t", "ünïcode 😀", "\0\x1f\x7f"]
        (portion,) = encoder_of(names, NONE, 1 << 20).encode(block(b"1,2,3,4,5,6\n", 1)).portions
        expected = csv_oracle.to_json(dict(zip(names, "123456", strict=True)))
        assert values(portion) == [expected.encode()]

    @pytest.mark.parametrize("quote", ["\\", "\x01", '"', "'"])
    def test_a_doubled_quote_is_escaped_as_json_asks(self, quote: str) -> None:
        row = quote + "a" + 2 * quote + "b" + quote
        (portion,) = encoder_of(["c"], NONE, 1 << 20, Dialect(",", quote)).encode(block(row.encode(), 1)).portions
        assert values(portion) == [csv_oracle.to_json({"c": f"a{quote}b"}).encode()]

    def test_blank_lines_alone_make_no_batch(self) -> None:
        blank = b"\n\r\n\r\r"
        (portion,) = encoder_of(["c"], NONE, 1 << 20).encode(block(blank, 0)).portions
        assert (portion.batches, portion.rows, bytes(portion.text)) == ((), 0, blank)
        assert portion.end.byte_offset == portion.start.byte_offset + len(blank)

    def test_a_miscounting_splitter_is_found_out(self) -> None:
        with pytest.raises(AssertionError, match="counted rows to 103, the encoder to 102"):
            encoder_of(["c"], NONE, 1 << 20).encode(block(b"1\n2\n", 3))


class TestBatches:
    def test_a_block_is_one_batch_where_it_fits(self) -> None:
        data = b"%d\n" * 5000 % tuple(range(5000))
        (portion,) = encoder_of(["c"], LZ4, 1 << 20).encode(block(data, 5000)).portions
        assert (portion.rows, portion.end.byte_offset) == (5000, 5000 + len(data))
        assert only(portion).uncompressed_bytes == len(decompress(LZ4, memoryview(only(portion).records)))

    @pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
    def test_batches_stay_below_the_limit_and_chain(self, codec: int) -> None:
        data = b"".join(b"%d,%s\n" % (row, noise(60, row)) for row in range(500))
        encoded = encoder_of(["a", "b"], codec, 3000).encode(block(data, 500))
        assert encoded.bad is None
        assert len(encoded.portions) > 3
        end = START
        for portion in encoded.portions:
            assert HEADER_BYTES + len(only(portion).records) <= 3000
            assert portion.start == end
            end = portion.end
        assert end == Position(600, 5000 + len(data))
        assert [value for portion in encoded.portions for value in values(portion)] == list(
            csv_oracle.expect(b"a,b\n" + data).values
        )

    def test_one_large_row_does_not_make_the_others_batches_small(self) -> None:
        data = b"1\n" * 1000 + noise(9_900) + b"\n" + b"2\n" * 1000
        encoded = encoder_of(["c"], NONE, 10_000).encode(block(data, 2001))
        assert encoded.bad is None
        assert len(encoded.portions) < 35  # about seven full ones of small rows; one row each would be hundreds

    def test_block_size_follows_how_well_rows_compress(self) -> None:
        encoder = encoder_of(["c"], LZ4, 1 << 20)
        first = encoder.block_bytes
        assert first <= 1 << 20  # nothing is known yet: as if records were as large as rows
        for _ in range(60):
            encoder.encode(block((b"abcdefgh" * 20 + b"\n") * 1000, 1000))
        assert encoder.block_bytes == 4 << 20  # the largest, however well it goes
        encoder.encode(block(noise(90_000) + b"\n", 1))
        assert encoder.block_bytes < 1.5 * (1 << 20)  # at once: a batch beyond the limit costs twice

    def test_block_size_never_falls_below_64_kib(self) -> None:
        assert encoder_of(["c"], NONE, 2000).block_bytes == 64 << 10

    def test_what_fits_a_batch_does_not_hang_on_earlier_rows(self) -> None:
        """A batch of a process that met a huge row is one that a fresh process can frame again."""
        columns = [f"a rather long name of a column, number {number}" for number in range(200)]
        rows = 2600
        data = (b"," * 199 + b"\n") * rows  # 0.5 MiB of CSV, 23 MiB of JSON: more than one batch may hold
        huge = b"\0" * (4 << 20) + b"," * 199 + b"\n"  # 24 MiB in one row
        used = encoder_of(columns, ZSTD, 1 << 20)
        assert len(used.encode(block(huge, 1)).portions) == 1
        portions = used.encode(block(data, rows)).portions
        fresh = encoder_of(columns, ZSTD, 1 << 20)
        assert [portion.end for portion in portions] == [
            again.end for again in fresh.encode(block(data, rows)).portions
        ]
        assert len(portions) == 2
        for portion in portions:
            assert only(portion).uncompressed_bytes <= 16 << 20
            part = block(data[: portion.rows * 200], portion.rows)
            assert fresh.frame(part) == (decompress(ZSTD, memoryview(only(portion).records)),)

    def test_threads_do_not_share_buffers(self) -> None:
        encoder = encoder_of(["c"], NONE, 1 << 22)
        blocks = [block(b"%d\n" % number * 20_000, 20_000) for number in range(4)]
        alone = [only(encoder.encode(part).portions[0]).records for part in blocks]
        found: dict[int, set[bytes]] = {number: set() for number in range(4)}

        def work(number: int) -> None:
            for _ in range(15):
                found[number].add(only(encoder.encode(blocks[number]).portions[0]).records)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: {records} for number, records in enumerate(alone)}


class TestFrame:
    def test_gives_the_records_of_a_batch_again(self) -> None:
        data = b'\n1,"x"\r\n\r\n2,y'
        encoder = encoder_of(["a", "b"], LZ4, 1 << 20)
        (portion,) = encoder.encode(block(data, 2)).portions
        assert encoder.frame(block(data, 2)) == (decompress(LZ4, memoryview(only(portion).records)),)

    @pytest.mark.parametrize(("data", "rows"), [(b"1\n2\n", 3), (b"1\n2,3\n", 2), (b"\xff\n", 1), (b"1\n", 0)])
    def test_refuses_rows_that_were_never_sent_like_this(self, data: bytes, rows: int) -> None:
        with pytest.raises(AssertionError):
            encoder_of(["a"], LZ4, 1 << 20).frame(block(data, rows))


class TestBadRows:
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (b"1", "has 1 field where the header has 2"),
            (b'1,2,"x\ny"', "has 3 fields where the header has 2"),
            (b"1,2,\xff", "has 3 fields where the header has 2"),
            (b"\xff,2,3", "is not valid UTF-8"),
            (b"1,\xed\xa0\x80", "is not valid UTF-8"),
            (b'"\xc3",2', "is not valid UTF-8"),
        ],
    )
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b""])
    @pytest.mark.parametrize("blank", [b"", b"\n\r\n\n"])
    def test_place_and_reason_are_exact(self, row: bytes, reason: str, line_end: bytes, blank: bytes) -> None:
        good = b"a,b\n" * 3 + blank
        rest = b"c,d\n" if line_end else b""
        encoded = encoder_of(["x", "y"], NONE, 1 << 20).encode(block(good + row + line_end + rest, 4 + bool(rest)))
        assert [portion.rows for portion in encoded.portions] == [3]
        assert encoded.bad is not None
        start = START.byte_offset + len(good)
        assert (encoded.bad.start, encoded.bad.end_byte) == (Position(103, start), start + len(row))
        assert encoded.bad.reason == reason
        assert f"row 104 (bytes {start} to {start + len(row)}) {reason}; the job's rows" in encoded.bad.message
        assert "--bad-rows quarantine" in encoded.bad.hint

    def test_a_bad_first_row_makes_no_batch(self) -> None:
        encoded = encoder_of(["x"], NONE, 1 << 20).encode(block(b"1,2\n", 1))
        assert encoded.portions == ()
        assert encoded.bad is not None
        assert encoded.bad.start == START

    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b""])
    def test_a_row_too_large_for_the_topic(self, line_end: bytes) -> None:
        good = b"1\n" * 10 + b"\r\n"
        row = noise(3000)
        encoded = encoder_of(["c"], LZ4, 2000).encode(block(good + row + line_end, 11))
        assert sum(portion.rows for portion in encoded.portions) == 10
        bad = encoded.bad
        assert bad is not None
        start = START.byte_offset + len(good)
        assert (bad.start, bad.end_byte) == (Position(110, start), start + 3000)
        assert "more than the topic's max.message.bytes (2000)" in bad.message
        needed = int(bad.reason.split()[5])
        assert f"Raise max.message.bytes of the topic to {needed}" in bad.hint
        assert encoder_of(["c"], LZ4, needed).encode(block(row + line_end, 1)).bad is None
        assert encoder_of(["c"], LZ4, needed - 1).encode(block(row + line_end, 1)).bad is not None

    @pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
    def test_padding_never_completes_a_character(self, cut: bytes) -> None:
        data = b"1\n" + cut
        end = Block(data + b"\x80" * PADDING, len(data), START, 2)
        bad = encoder_of(["c"], NONE, 1 << 20).encode(end).bad
        assert bad is not None
        assert (bad.reason, bad.end_byte) == ("is not valid UTF-8", START.byte_offset + len(data))

    def test_padding_is_never_read_as_rows(self) -> None:
        data = b"1\n2"
        for junk in (b'"' * PADDING, b"\n" * PADDING, b"," * PADDING, b"\xff" * PADDING, b"x" * PADDING):
            (portion,) = encoder_of(["c"], NONE, 1 << 20).encode(Block(data + junk, 3, START, 2)).portions
            assert values(portion) == [b'{"c":"1"}', b'{"c":"2"}']
