"""Bytes -> blocks of whole rows; the header; skipping and taking rows."""

from __future__ import annotations

import pytest

from csv2kafka.csvkernel import PADDING
from csv2kafka.errors import BadHeader, BadRow
from csv2kafka.model import Block, Dialect, Header, Naming, Position
from csv2kafka.splitter import read_header, skip_rows, split, take_rows
from tests.support.setup import chunks

START = Position(10, 300)


def blocks(data: bytes, block_bytes: int, chunk_bytes: int = 7, dialect: Dialect | None = None) -> list[Block]:
    return list(split(chunks(data, (chunk_bytes,)), START, dialect or Dialect(), lambda: block_bytes))


def texts(parts: list[Block]) -> list[bytes]:
    return [part.data[: part.size_bytes] for part in parts]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    blocks(b"1\n", 100)


class TestSplit:
    def test_blocks_hold_whole_rows_and_chain(self) -> None:
        parts = blocks(b'1,2\n3,"a\nb"\r\n5,6\n', 9)
        assert texts(parts) == [b"1,2\n", b'3,"a\nb"\r\n', b"5,6\n"]
        assert [part.rows for part in parts] == [1, 1, 1]
        assert [part.start for part in parts] == [START, Position(11, 304), Position(12, 313)]
        assert parts[-1].end == Position(13, 317)

    def test_every_block_has_padding_behind_it(self) -> None:
        for part in blocks(b"a,b\n" * 50, 30):
            assert len(part.data) - part.size_bytes >= PADDING

    def test_block_size_is_asked_for_every_block(self) -> None:
        sizes = iter([4, 8, 100])
        parts = list(split([b"1\n" * 20], START, Dialect(), lambda: next(sizes)))
        assert [part.rows for part in parts] == [2, 4, 14]

    def test_the_last_row_may_lack_its_line_end(self) -> None:
        (part,) = blocks(b"1\n2", 100)
        assert (part.rows, part.size_bytes) == (2, 3)

    def test_blank_lines_are_no_rows(self) -> None:
        (part,) = blocks(b"\n\r\n1\n\n\r\r2\n\n", 100)
        assert part.rows == 2

    def test_crlf_cut_in_two_is_one_line_end(self) -> None:
        parts = blocks(b"1\r\n2\r\n", 2, 2)
        assert sum(part.rows for part in parts) == 2
        assert b"".join(texts(parts)) == b"1\r\n2\r\n"

    @pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n"])
    def test_no_rows(self, data: bytes) -> None:
        assert sum(part.rows for part in blocks(data, 10)) == 0

    def test_empty_chunks_mean_nothing(self) -> None:
        parts = list(split([b"", b"1\n", b"", b"", b"2\n", b""], START, Dialect(), lambda: 100))
        assert texts(parts) == [b"1\n2\n"]

    def test_a_large_chunk_is_not_copied_for_every_block(self) -> None:
        """What is left of a chunk is a view of it, or many small blocks of a large chunk would take quadratic time."""
        chunk = b"1234567\n" * 4096
        parts = blocks(chunk, 64, len(chunk))
        assert len(parts) == 512
        assert b"".join(texts(parts)) == chunk

    def test_an_unclosed_quote_comes_behind_the_rows_before_it(self) -> None:
        parts = split([b'1\n2\n"3\n4\n'], START, Dialect(), lambda: 100)
        assert next(parts).rows == 2
        with pytest.raises(BadRow, match=r"row 13 \(bytes 304 to 309\) has a quote that is never closed") as caught:
            next(parts)
        assert (caught.value.start, caught.value.end_byte) == (Position(12, 304), 309)
        assert 'stray " near byte 304' in caught.value.hint

    @pytest.mark.parametrize("block_bytes", [1, 20, 1000])
    def test_an_endless_row_is_not_gathered_to_the_end(self, block_bytes: int) -> None:
        taken = 0

        def endless() -> object:
            nonlocal taken
            yield b'1\n"'
            while True:
                taken += 1
                yield b"x" * 10

        parts = split(endless(), START, Dialect(quote='"'), lambda: block_bytes, max_row_bytes=200)  # type: ignore[arg-type]
        with pytest.raises(BadRow, match="is longer than 200 bytes") as caught:
            list(parts)
        assert (caught.value.start, caught.value.end_byte) == (Position(11, 302), 302 + 201)
        assert taken < 30

    def test_long_rows_take_linear_time(self) -> None:
        """What a row beyond a block has been scanned for is not scanned again: 8 MiB in blocks of one byte."""
        row = b'"' + b"x\n" * (4 << 20) + b'"\n'
        (part,) = blocks(row, 1, 1 << 20)
        assert (part.rows, part.size_bytes) == (1, len(row))


class TestSkipAndTake:
    DATA = b'1\r\n\r\n"2\n"\n3\r4'

    @pytest.mark.parametrize(
        ("rows", "byte_offset"), [(0, 300), (1, 302), (2, 310), (3, 312), (4, 313), (5, 313), (99, 313)]
    )
    def test_skip(self, rows: int, byte_offset: int) -> None:
        place = skip_rows(chunks(self.DATA, (3,)), START, rows, Dialect())
        assert place == Position(10 + min(rows, 4), byte_offset)

    def test_skip_over_several_blocks(self) -> None:
        data = b"1234567\n" * (1 << 20)  # 8 MiB, where blocks have 4
        for rows in (1, (1 << 19) - 1, 1 << 19, (1 << 19) + 1, 1 << 20):
            assert skip_rows([data], Position(0, 0), rows, Dialect()) == Position(rows, 8 * rows)

    def test_skip_to_an_unclosed_quote(self) -> None:
        with pytest.raises(BadRow):
            skip_rows([b'1\n"2'], START, 2, Dialect())

    @pytest.mark.parametrize(("rows", "size_bytes"), [(1, 2), (2, 10), (3, 12), (4, 13), (5, 13)])
    def test_take(self, rows: int, size_bytes: int) -> None:
        part = take_rows(chunks(self.DATA, (2,)), START, rows, Dialect())
        assert (part.start, part.rows, part.size_bytes) == (START, min(rows, 4), size_bytes)
        assert part.data[:size_bytes] == self.DATA[:size_bytes]
        assert len(part.data) - size_bytes >= PADDING

    def test_take_more_than_is_read_at_once(self) -> None:
        data = b"1234567\n" * (1 << 20)
        part = take_rows(chunks(data, (1 << 20,)), START, (1 << 20) - 1, Dialect())
        assert (part.rows, part.size_bytes) == ((1 << 20) - 1, len(data) - 8)


class TestHeader:
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b""])
    @pytest.mark.parametrize("chunk_bytes", [1, 2, 100])
    def test_columns_and_end(self, bom: bytes, line_end: bytes, chunk_bytes: int) -> None:
        names = '"a, ""b""",c\td,"é\r\n日"'.encode()
        header = read_header(chunks(bom + names + line_end + b"1,2,3\n" * bool(line_end), (chunk_bytes,)), Dialect())
        assert header.columns == ('a, "b"', "c\td", "é\r\n日")
        assert header.end_byte == len(bom) + len(names) + len(line_end[:1])  # CRLF's LF is a blank line

    def test_other_dialect(self) -> None:
        assert read_header([b"'a;b';c\n"], Dialect(";", "'")).columns == ("a;b", "c")

    def test_one_column(self) -> None:
        assert read_header([b"only"], Dialect()).columns == ("only",)

    def test_longer_than_the_first_read_and_than_csv_s_own_limit(self) -> None:
        names = tuple(f"column {number}" for number in range(20_000))
        long = "x" * 200_000
        data = (",".join(names) + "," + long + "\n1\n").encode()
        assert read_header(chunks(data, (1000,)), Dialect()).columns == (*names, long)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "the file is empty"),
            (b"\xef\xbb\xbf", "the file is empty"),
            (b"\na,b\n", "first line is empty"),
            (b"\xef\xbb\xbf\r\na\n", "first line is empty"),
            (b"\n", "first line is empty"),
            (b"a,,b\n", "column 2 of 3 has no name"),
            (b'""\n', "column 1 of 1 has no name"),
            (b"a,b,\n", "column 3 of 3 has no name"),
            (b"a,b,c,b\n", "columns 2 and 4 of the header have the same name 'b'"),
            (b'a,"a"\n', "columns 1 and 2 of the header have the same name 'a'"),
            (b"a,\xff\n", "not UTF-8 at byte 2"),
            (b"\xef\xbb\xbfa,\xe9t\xe9\n", "not UTF-8 at byte 5"),
            (b'a,"b\n1,2\n', "quote never closed"),
            (b'"', "quote never closed"),
        ],
    )
    @pytest.mark.parametrize("chunk_bytes", [1, 100])
    def test_refused(self, data: bytes, message: str, chunk_bytes: int) -> None:
        with pytest.raises(BadHeader, match=message) as caught:
            read_header(chunks(data, (chunk_bytes,)), Dialect())
        assert caught.value.hint
        assert caught.value.exit_code == 65

    @pytest.mark.parametrize("chunk_bytes", [1, 2, 100])
    @pytest.mark.parametrize(
        ("data", "naming", "columns", "end"),
        [
            (b"x\r\ny\ra,b\n1,2\n", Naming(skip_lines=2), ("a", "b"), 9),
            (b"x\r\n\ny\n\n\na,b\n", Naming(skip_lines=5), ("a", "b"), 12),
            (b'"x\na,b\n', Naming(skip_lines=1), ("a", "b"), 7),
            (b"\xef\xbb\xbfx\na\n", Naming(skip_lines=1), ("a",), 7),
            (b"a,b\n1,2\n", Naming(columns=("x", "y")), ("x", "y"), 4),
            (b"a,a\n1,2\n", Naming(columns=("x", "y")), ("x", "y"), 4),
            (b"1,2\n", Naming(has_header=False), ("c1", "c2"), 0),
            (b"\xef\xbb\xbf\r\n\n1,2", Naming(has_header=False), ("c1", "c2"), 3),
            (b'x\n"1\n",2\n', Naming(1, has_header=False), ("c1", "c2"), 2),
            (b"\xef\xbb\xbf1,2\n", Naming(has_header=False, columns=("x", "y")), ("x", "y"), 3),
            (b"", Naming(has_header=False, columns=("x",)), ("x",), 0),
            (b"x\r", Naming(1, has_header=False, columns=("x",)), ("x",), 2),
            (b"x\n", Naming(9, has_header=False, columns=("x",)), ("x",), 2),
        ],
    )
    def test_names_that_come_from_elsewhere(
        self, data: bytes, naming: Naming, columns: tuple[str, ...], end: int, chunk_bytes: int
    ) -> None:
        assert read_header(chunks(data, (chunk_bytes,)), Dialect(), naming) == Header(columns, end)

    @pytest.mark.parametrize(
        ("data", "naming", "message"),
        [
            (b"a,b,c\n", Naming(columns=("x", "y")), "--columns names 2 columns, the header has 3"),
            (b"a,b\n", Naming(columns=("x", "x")), "columns 1 and 2 of --columns have the same name"),
            (b"1,2\n", Naming(has_header=False, columns=("x", "")), "column 2 of 2 has no name in --columns"),
            (b"\n\r\n", Naming(has_header=False), "nothing tells how many columns"),
            (b"x", Naming(skip_lines=1), "the file is empty"),
            (b"1,\xff\n", Naming(has_header=False), "not UTF-8 at byte 2"),
            (b"x\n1,\xff\n", Naming(skip_lines=1), "not UTF-8 at byte 4"),
            (b"x" * 50, Naming(skip_lines=1), "a line to be skipped is longer than 40 bytes"),
        ],
    )
    def test_names_that_cannot_be(self, data: bytes, naming: Naming, message: str) -> None:
        with pytest.raises(BadHeader, match=message) as caught:
            read_header(chunks(data, (7,)), Dialect(), naming, max_row_bytes=40)
        assert caught.value.hint

    def test_a_file_without_a_line_end_is_not_read_to_its_end(self) -> None:
        taken = 0

        def endless() -> object:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 10_000

        with pytest.raises(BadHeader, match="does not end within"):
            read_header(endless(), Dialect(), max_row_bytes=100_000)  # type: ignore[arg-type]
        assert taken < 30
