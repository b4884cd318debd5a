"""Differential tests of the whole chain, chunks to records, against Python's csv and json (tests/support/chain.py)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csv2kafka.errors import BadRow
from csv2kafka.model import Dialect, Position
from csv2kafka.recordbatch import CODECS, HEADER_BYTES
from csv2kafka.splitter import split
from tests.support import csv_oracle, kernel_checks
from tests.support.chain import compare, compare_rows
from tests.support.csvgen import BAD_UTF8, SIZES, case
from tests.support.setup import TOO_LARGE, Setup, chunks

fuzz = settings(
    max_examples=25,
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LINE_ENDS = (b"\n", b"\r\n", b"\r")
PIECES = (*LINE_ENDS, b"", b"a", b" ", b"x" * 33, b"\0", b"\x1f", b"\x7f", b"\\", b'"', "é日😀\u2028\ufeff".encode())


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile before the clock of the first test runs."""
    compare(b"a\n1\n", Setup())


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    delimiter = draw(st.sampled_from(",;\t|: \0a\\"))
    return Dialect(delimiter, draw(st.sampled_from("\"'`|\\\x01b").filter(lambda quote: quote != delimiter)))


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    sizes = st.lists(st.sampled_from(SIZES), min_size=1, max_size=4).map(tuple)
    return Setup(
        draw(st.just(Dialect()) | dialects()),
        draw(sizes),
        draw(sizes),
        draw(st.sampled_from(sorted(CODECS))),
        draw(st.sampled_from((90, 150, 400, 1 << 20))),
    )


@st.composite
def bodies(draw: st.DrawFn, setup: Setup, *others: bytes) -> bytes:
    """Meaningful bytes in any order."""
    special = setup.dialect.delimiter.encode(), setup.dialect.quote.encode()
    return b"".join(draw(st.lists(st.sampled_from((*special, *special, *PIECES, *others)), max_size=40)))


@st.composite
def well_formed(draw: st.DrawFn, setup: Setup) -> tuple[bytes, int]:
    """(file, rows): every field quoted, or plain where nothing in it asks for quotes."""
    delimiter, quote = setup.dialect.delimiter.encode(), setup.dialect.quote.encode()
    columns = draw(st.integers(1, 4))
    out = delimiter.join(b"%d" % number for number in range(columns)) + draw(st.sampled_from(LINE_ENDS))
    rows = draw(st.integers(0, 8))
    for _ in range(rows):
        fields = []
        for _ in range(columns):
            text = b"".join(draw(st.lists(st.sampled_from((delimiter, quote, *PIECES)), max_size=4)))
            plain = not any(special in text for special in (delimiter, quote, b"\n", b"\r"))
            quoted = quote + text.replace(quote, 2 * quote) + quote
            fields.append(text if plain and text and draw(st.booleans()) else quoted)
        out += delimiter.join(fields) + draw(st.sampled_from(LINE_ENDS)) * draw(st.sampled_from((1, 1, 3)))
    return (out.rstrip(b"\r\n") if rows and draw(st.booleans()) else out), rows


class TestAnyInput:
    @fuzz
    @given(st.data(), setups())
    def test_text(self, data: st.DataObject, setup: Setup) -> None:
        header = data.draw(st.sampled_from((b"c", b"c", b"c,d", b"c,d,e"))).replace(
            b",", setup.dialect.delimiter.encode()
        )
        bom = data.draw(st.sampled_from((b"", b"\xef\xbb\xbf")))
        compare(bom + header + data.draw(st.sampled_from(LINE_ENDS)) + data.draw(bodies(setup)), setup)

    @fuzz
    @given(st.data(), setups())
    def test_bytes(self, data: st.DataObject, setup: Setup) -> None:
        header = b"c" + setup.dialect.delimiter.encode() + b"d\n"
        compare(header + data.draw(bodies(setup, *BAD_UTF8) | st.binary(max_size=100)), setup)

    @fuzz
    @given(st.data(), setups())
    def test_header(self, data: st.DataObject, setup: Setup) -> None:
        compare(data.draw(bodies(setup, b"b", b"c", *BAD_UTF8)), setup)

    @pytest.mark.parametrize(
        "file", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb", b'\xef\xbb\xbf"x', b'\xef\xbb\xbf"x"', b"a"]
    )
    @pytest.mark.parametrize("chunk_bytes", [1, 2, 100])
    def test_header_alone(self, file: bytes, chunk_bytes: int) -> None:
        compare(file, Setup(chunk_bytes=(chunk_bytes,)))

    @settings(fuzz, max_examples=20)
    @given(st.data(), setups())
    def test_well_formed_file_has_no_bad_row(self, data: st.DataObject, setup: Setup) -> None:
        file, rows = data.draw(well_formed(setup))
        expected = setup.expected(file)
        assert (len(expected.values), expected.stop) == (rows, None)
        compare(file, setup)

    @pytest.mark.parametrize("seed", [1, 2, 3, 4])
    def test_the_campaign_s_first_cases(self, seed: int) -> None:
        for number in range(60):
            compare(*case(seed, number))

    @pytest.mark.parametrize("columns", [1, 2])
    @pytest.mark.parametrize("first", [b"", b'"', b",", b"\r", b"a"])
    def test_every_short_body(self, first: bytes, columns: int) -> None:
        header = b",".join([b"a", b"b"][:columns]) + b"\n"
        for rest in itertools.product((b'"', b",", b"\r", b"\n", b"a"), repeat=3):
            compare_rows(header + first + b"".join(rest), Setup(chunk_bytes=(1,), block_bytes=(2,)))


class TestCuts:
    FILE = (
        '\ufeffa,"b ""q"""\r\n1,2\r\n\r\n"x\ry\r\nz","é"\r3,""\r"""","a""b"\n,\n\n\n"日本"x"y,\\\t\0\r\n5,"6"'
    ).encode()

    def test_the_file_is_good(self) -> None:
        expected = csv_oracle.expect(self.FILE)
        assert (len(expected.values), expected.stop) == (7, None)

    @pytest.mark.parametrize("block_bytes", [1, 7, 1000])
    def test_every_place(self, block_bytes: int) -> None:
        for cut in range(1, len(self.FILE)):
            compare_rows(self.FILE, Setup(chunk_bytes=(cut, 1000), block_bytes=(block_bytes,)))

    def test_every_chunk_size(self) -> None:
        for size in range(1, len(self.FILE) + 1):
            compare_rows(self.FILE, Setup(chunk_bytes=(size,), block_bytes=(size, 3)))

    def test_every_block_size_with_every_position(self) -> None:
        for size in range(1, len(self.FILE) + 1, 2):
            compare(self.FILE, Setup(chunk_bytes=(5,), block_bytes=(size,), max_batch_bytes=140))

    @pytest.mark.parametrize("tail", [b'6,"', b'6,"x\n', b"6", b"6,7,8\n", b"6,\xc3\r\n", b'6,"\xc3"\r\n\r\n'])
    def test_a_bad_end_at_every_cut(self, tail: bytes) -> None:
        file = self.FILE + b"\r\n" + tail
        assert csv_oracle.expect(file).stop is not None
        for cut in range(1, len(file)):
            compare_rows(file, Setup(chunk_bytes=(cut, 1), block_bytes=(11,)))


def _spread(character: bytes) -> Iterator[bytes]:
    """Files with the character in a first or last, plain or quoted field, at every place that a vector step can see."""
    for before in (0, 1, 2, 27, 28, 29, 30, 31, 32, 33, 62, 63, 64):
        text = b"x" * before + character
        yield b"a,b\n1,2\n" + text + b"z,2\n3,4\n"
        yield b"a,b\n1,2\n1," + text
        yield b'a,b\n1,2\n"' + text + b'",2\r\n3,4\n'
        yield b'a,b\n1,2\n1,"' + text + b'"\n'


class TestUtf8:
    @pytest.mark.parametrize("sequence", BAD_UTF8, ids=bytes.hex)
    def test_bad_sequence_anywhere(self, sequence: bytes) -> None:
        for file in _spread(sequence):
            expected, _, got = compare_rows(file, Setup(chunk_bytes=(9,), block_bytes=(50,)))
            assert got.stop is not None
            assert got.stop.why == csv_oracle.NOT_UTF8
            assert expected.stop == got.stop

    @pytest.mark.parametrize("character", "\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff")
    def test_good_sequence_anywhere_and_cut_short_anywhere(self, character: str) -> None:
        sequence = character.encode()
        for file in _spread(sequence):
            assert compare_rows(file, Setup(chunk_bytes=(1000,)))[2].stop is None
        for file in _spread(sequence[:-1]):
            assert compare_rows(file, Setup(chunk_bytes=(1000,)))[2].stop is not None

    @pytest.mark.parametrize(("first", "end"), [(0, 0x10000), (0x10000, 0x90000), (0x90000, 0x110000)])
    def test_every_character(self, first: int, end: int) -> None:
        skipped = {*',"\r\n', *map(chr, range(0xD800, 0xE000))}
        points = [character for character in map(chr, range(first, end)) if character not in skipped]
        rows = ("".join(points[at : at + 5000]) for at in range(0, len(points), 5000))
        _, _, got = compare_rows(b"a\n" + "\n".join(rows).encode(), Setup())
        assert len(got.values) == -(-len(points) // 5000)

    @pytest.mark.parametrize("first", range(0x80, 0x100, 0x10), ids=hex)
    def test_every_sequence_of_two(self, first: int) -> None:
        _same_verdict(bytes([lead, second]) for lead in range(first, first + 0x10) for second in range(256))

    @pytest.mark.parametrize("lead", [*range(0xE0, 0xF0), *range(0xF0, 0xF6), 0xFF], ids=hex)
    def test_every_edge_of_longer_sequences(self, lead: int) -> None:
        edges = (0x2C, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
        longest = 3 if lead < 0xF0 else 4
        for length in range(1, longest + 1):
            _same_verdict(bytes([lead, *rest]) for rest in itertools.product(edges, repeat=length - 1))


def _same_verdict(sequences: Iterator[bytes]) -> None:
    """The kernel takes a row with the bytes exactly when Python decodes them."""
    setup, dst = Setup(Dialect("\t", "'")), np.empty(512, np.uint8)
    for sequence in sequences:
        body = b"-" + sequence + b"-"
        if b"\t" in sequence or b"\n" in sequence or b"\r" in sequence:
            continue
        try:
            body.decode()
            good = True
        except UnicodeDecodeError:
            good = False
        _, _, rows, _ = kernel_checks.encode_into(dst, body, ("a",), setup)
        assert rows == good, sequence.hex()


class TestSizes:
    @pytest.mark.parametrize("quoted", [False, True])
    def test_a_thousand_columns(self, quoted: bool) -> None:
        names = [f"column {number}" for number in range(1000)]
        cell = '"v ""%d"""' if quoted else "v%d"
        rows = [",".join(cell % (row * number) for number in range(1000)) for row in range(5)]
        compare("\r\n".join([",".join(names), *rows]).encode(), Setup(chunk_bytes=(997,), block_bytes=(4000,)))
        ragged = "\n".join([",".join(names), rows[0], rows[1] + ",x", rows[2]]).encode()
        assert compare_rows(ragged, Setup())[2].stop == csv_oracle.expect(ragged).stop

    @pytest.mark.parametrize(
        "text", [b"x", b'""', b"xxxxxxxxxxxxxx\r\n", "é".encode(), b"\0"], ids=["x", "quote", "CRLF", "two", "NUL"]
    )
    def test_fields_of_megabytes(self, text: bytes) -> None:
        field = b'"' + text * ((2 << 20) // len(text)) + b'"'
        file = b"a,b\n1," + field + b"\n" + field + b",2\n3,4\n"
        _, _, got = compare_rows(file, Setup(chunk_bytes=(300_000,), block_bytes=(64 << 10,), codec="lz4"))
        assert len(got.values) == 3

    def test_a_field_beyond_the_largest_shared_buffer(self) -> None:
        file = b"a\n0\n" + b"\0" * (3 << 20) + b"\n1\n"  # 18 MiB of JSON
        _, _, got = compare_rows(file, Setup(codec="zstd", chunk_bytes=(1 << 20,)))
        assert [len(value) for value in got.values] == [9, 8 + 6 * (3 << 20), 9]

    @pytest.mark.parametrize("codec", CODECS)
    @fuzz
    @given(data=st.data())
    def test_small_batches(self, codec: str, data: st.DataObject) -> None:
        setup = Setup(codec=codec, max_batch_bytes=data.draw(st.integers(70, 300)), block_bytes=(500,))
        compare(b"a\n" + data.draw(bodies(setup)) * data.draw(st.integers(1, 5)), setup)

    @pytest.mark.parametrize("lead", [b"", b"\n\r\n"])
    @pytest.mark.parametrize("line_end", LINE_ENDS)
    def test_a_row_is_too_large_from_the_first_byte_on(self, line_end: bytes, lead: bytes) -> None:
        file = b"a" + line_end + b"1" + line_end + lead + b"x" * 100 + line_end + b"2"
        fits = HEADER_BYTES + len(csv_oracle.frame_record(b'{"a":"' + b"x" * 100 + b'"}', 0))
        start = file.index(b"x")
        for block_bytes in (1, 50, start + 100 + len(line_end) - 1, 1000):
            cut = Setup(block_bytes=(block_bytes,), max_batch_bytes=fits)
            assert len(compare_rows(file, cut)[2].values) == 3
            cut = Setup(block_bytes=(block_bytes,), max_batch_bytes=fits - 1)
            assert compare_rows(file, cut)[2].stop == csv_oracle.Stop(2, start, start + 100, TOO_LARGE)


class TestEndlessRows:
    """A row's length alone decides whether it is endless, never how its bytes came."""

    @staticmethod
    def _outcome(file: bytes, chunk_bytes: int, block_bytes: int) -> Any:
        start, ends = Position(0, 0), []
        parts = split(chunks(file, (chunk_bytes,)), start, Dialect(), lambda: block_bytes, max_row_bytes=50)
        try:
            ends = [block.end for block in parts]
        except BadRow as bad:
            return bad.start, bad.end_byte, bad.reason
        return ends[-1]

    @pytest.mark.parametrize(
        ("length", "endless"), [(49, False), (50, False), (51, True), (52, True), (120, True), (4000, True)]
    )
    def test_at_every_cut(self, length: int, endless: bool) -> None:
        file = b"1,2\n" + b"x" * length + b"\n3,4\n"
        outcomes = {
            self._outcome(file, chunk_bytes, block_bytes)
            for chunk_bytes in (1, 2, 3, 7, 50, 51, 52, 100, 5000)
            for block_bytes in (1, 4, 30, 55, 56, 200, 10_000)
        }
        good = Position(3, len(file))
        bad = (Position(1, 4), 4 + 51, "is longer than 50 bytes")
        assert outcomes == {bad if endless else good}
