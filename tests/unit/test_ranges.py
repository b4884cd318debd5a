"""Parts of whole rows out of ranges that begin anywhere, against Python's csv and against the splitter."""

from __future__ import annotations

import itertools
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2kafka import slowcsv
from csv2kafka.errors import BadRow
from csv2kafka.model import Dialect, Part, Position
from csv2kafka.ranges import Transition, compose, cuts, scan_range
from csv2kafka.splitter import skip_rows, split
from tests.support.setup import chunks

ESCAPED = Dialect(escape="\\")
START_BYTE = 300  # a header lies before
fuzz = settings(max_examples=200, deadline=None, print_blob=True, derandomize="CI" in os.environ)
CHUNK_BYTES = st.sampled_from((1, 2, 3, 7, 40))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    for dialect in (Dialect(), ESCAPED):
        scan_range([b"1\n"], 0, dialect)


def scan(pieces: list[bytes], dialect: Dialect, chunk_bytes: int = 1 << 20) -> list[Transition]:
    begins = itertools.accumulate(map(len, pieces), initial=START_BYTE)
    return [
        scan_range(chunks(piece, (chunk_bytes,)), begin, dialect) for piece, begin in zip(pieces, begins, strict=False)
    ]


def texts(pieces: list[bytes], dialect: Dialect | None = None, chunk_bytes: int = 1 << 20) -> list[tuple[bytes, int]]:
    """Each part's bytes and rows, of a file that comes as these ranges; the parts follow each other from its start."""
    data = b"".join(pieces)
    parts = compose(scan(pieces, dialect or Dialect(), chunk_bytes), START_BYTE)
    end = Position(0, START_BYTE)
    for part, rows in parts:
        assert Position(part.first_row, part.start_byte) == end
        end = Position(end.row + rows, part.end_byte)
    assert not parts or end.byte_offset == START_BYTE + len(data)
    return [(data[part.start_byte - START_BYTE : part.end_byte - START_BYTE], rows) for part, rows in parts]


class TestParts:
    def test_a_cut_moves_behind_the_row_that_it_is_in(self) -> None:
        assert texts([b"1,2\n3,", b"4\n5,6\n"]) == [(b"1,2\n3,4\n", 2), (b"5,6\n", 1)]

    def test_where_they_lie_in_the_file(self) -> None:
        parts = compose(scan([b"1\n2", b"2\n3\n", b"4\n"], Dialect()), START_BYTE)
        assert parts == ((Part(0, 300, 305), 2), (Part(2, 305, 307), 1), (Part(3, 307, 309), 1))

    def test_a_row_that_begins_with_the_range_begins_its_part(self) -> None:
        assert texts([b"1\n", b"2", b"2\n3\n"]) == [(b"1\n", 1), (b"22\n", 1), (b"3\n", 1)]

    def test_line_ends_in_quotes_end_no_row(self) -> None:
        assert texts([b'1,"a\nb', b'\n,c\n"\n2,"d\n"', b"\n3,4"]) == [
            (b'1,"a\nb\n,c\n"\n', 1),
            (b'2,"d\n"\n', 1),
            (b"3,4", 1),
        ]

    def test_a_row_that_looks_like_others_from_within(self) -> None:
        """Quotes are even before either cut: only what stands before a quote tells whether it opens a field."""
        assert texts([b'1,"', b'2,"a\nb",3\n', b"4,5\n"]) == [(b'1,"2,"a\n', 1), (b'b",3\n', 1), (b"4,5\n", 1)]

    @pytest.mark.parametrize("stray", [b'5" pipe', b'x""', b'"q"x"', b' "a"'])
    def test_a_stray_quote_is_text(self, stray: bytes) -> None:
        row = b"1," + stray + b",2\n"
        for cut in range(1, len(row)):
            assert texts([row + row[:cut], row[cut:] + row]) == [(row * 2, 2), (row, 1)]

    @pytest.mark.parametrize("before", [b'1,"a', b"1,b", b'1,"a""b"'])
    @pytest.mark.parametrize("quote", [b'"', b'""', b'"""'])
    def test_a_cut_between_doubled_quotes(self, before: bytes, quote: bytes) -> None:
        file = before + quote + b'\n2,3\n"4"\n'
        wanted = slowcsv.rows(file.decode(), Dialect())
        for cut, chunk_bytes in itertools.product(range(1, len(file)), (1, 100)):
            parts = texts([file[:cut], file[cut:]], chunk_bytes=chunk_bytes)
            assert sum(rows for _, rows in parts) == len(wanted)

    def test_a_cut_within_crlf(self) -> None:
        assert texts([b"1\r\n2\r", b"\n3\r\n"]) == [(b"1\r\n2\r", 2), (b"\n3\r\n", 1)]
        assert texts([b"1\r\n2", b"\r\n3\r\n"]) == [(b"1\r\n2\r", 2), (b"\n3\r\n", 1)]

    def test_blank_lines_are_no_rows_and_make_no_part(self) -> None:
        assert texts([b"\n\r", b"\n1\n", b"\n\n", b"\n2\n", b"\r\n", b"\n"]) == [
            (b"\n\r\n1\n", 1),
            (b"\n\n\n2\n\r\n\n", 1),
        ]

    @pytest.mark.parametrize("pieces", [[], [b""], [b"", b""], [b"\n"], [b"\r", b"\n", b""]])
    def test_no_rows_no_parts(self, pieces: list[bytes]) -> None:
        assert texts(pieces) == []

    def test_a_row_longer_than_ranges(self) -> None:
        pieces = [b'1\n"2', b"2\n", b"2\n2", b'2"\n', b"3\n"]
        assert texts(pieces) == [(b"1\n" + b"".join(pieces[:4])[2:], 2), (b"3\n", 1)]

    def test_an_empty_range_changes_nothing(self) -> None:
        assert texts([b"", b"1\n2", b"", b"3\n4\n", b""]) == [(b"1\n23\n", 2), (b"4\n", 1)]

    @pytest.mark.parametrize("last", [b"2", b"2,", b'"2"', b'""'])
    def test_the_last_row_may_lack_its_line_end(self, last: bytes) -> None:
        assert texts([b"1\n", last]) == [(b"1\n", 1), (last, 1)]

    def test_a_quote_never_closed_leaves_one_row(self) -> None:
        """Who reads it is told by the splitter, as without parts."""
        pieces = [b'1\n"2\n', b"3\n", b"4\n"]
        assert texts(pieces) == [(b"".join(pieces), 2)]

    @pytest.mark.parametrize(
        ("pieces", "parts"),
        [
            ([b"1\\", b"\n1\n2\n"], [(b"1\\\n1\n", 1), (b"2\n", 1)]),
            ([b"1,\\", b'"\n2,3\n'], [(b'1,\\"\n', 1), (b"2,3\n", 1)]),
            ([b"1\\,", b'"\n2,3\n'], [(b'1\\,"\n', 1), (b"2,3\n", 1)]),
            ([b'1\\,"\n2,3\n', b"4\n"], [(b'1\\,"\n2,3\n', 2), (b"4\n", 1)]),
            ([b'"1\\', b'"\n1"\n2\n'], [(b'"1\\"\n1"\n', 1), (b"2\n", 1)]),
            ([b'"1"', b'\\"\n2\n"3\n"'], [(b'"1"\\"\n', 1), (b'2\n"3\n"', 2)]),
            ([b"1\n", b"\\", b"\n2\n3\n"], [(b"1\n", 1), (b"\\\n2\n", 1), (b"3\n", 1)]),
            ([b"1\n2", b"\\"], [(b"1\n2\\", 2)]),
        ],
    )
    def test_escapes(self, pieces: list[bytes], parts: list[tuple[bytes, int]]) -> None:
        assert texts(pieces, ESCAPED) == parts

    def test_no_escape_without_one_in_the_dialect(self) -> None:
        assert texts([b"1\\", b"\n1\n2\n"]) == [(b"1\\\n", 1), (b"1\n2\n", 2)]

    def test_megabytes(self) -> None:
        """Chunks beyond what a track runs at once, with a cut in quotes that look like rows."""
        file = b'1,"a\n2,"\n' * 100_000
        parts = texts([file[:450_005], file[450_005:]], chunk_bytes=200_000)
        assert parts == [(file[:450_009], 50_001), (file[450_009:], 49_999)]

    @pytest.mark.parametrize("order", [(1, 0), (0, 2), (1, 2), (0, 0, 1)])
    def test_ranges_that_do_not_follow_each_other_are_refused(self, order: tuple[int, ...]) -> None:
        transitions = scan([b"1\n", b"2\n", b"3\n"], Dialect())
        with pytest.raises(ValueError, match="a range begins at byte 30"):
            compose([transitions[number] for number in order], START_BYTE)

    def test_what_travels_is_small(self) -> None:
        (transition,) = scan([b"1,2\n" * 100_000], Dialect())
        travelled = pickle.dumps(transition)
        assert pickle.loads(travelled) == transition
        assert len(travelled) < 1000


class TestCuts:
    def test_even(self) -> None:
        assert cuts(10, 110, 4) == (10, 35, 60, 85)

    def test_no_range_without_a_byte(self) -> None:
        assert cuts(10, 13, 7) == (10, 11, 12)

    def test_one_for_no_bytes(self) -> None:
        assert cuts(10, 10, 7) == (10,)


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    marks = st.lists(st.sampled_from(",;\t\"'\\ a"), min_size=3, max_size=3, unique=True)
    delimiter, quote, escape = draw(marks)
    return Dialect(delimiter, quote, draw(st.sampled_from((None, escape))))


@st.composite
def cut_texts(draw: st.DrawFn, dialect: Dialect) -> list[bytes]:
    """Any text of troublesome characters in up to eight pieces, now and then with fields beyond a vector step."""
    delimiter, quote, escape = dialect.delimiter, dialect.quote, dialect.escape or "b"
    marks = (delimiter, quote, quote, quote + quote, escape, escape + delimiter + quote)
    atoms = st.sampled_from((*marks, "\n", "\r", "b", " ", "é", "x" * 33))
    text = "".join(draw(st.lists(atoms, max_size=60))).encode()
    places = draw(st.lists(st.integers(0, len(text)), min_size=1, max_size=7))
    return [text[a:b] for a, b in itertools.pairwise([0, *sorted(places), len(text)])]


class TestAnyTextCutAnywhere:
    @fuzz
    @given(st.data(), st.just(Dialect()) | dialects(), CHUNK_BYTES)
    def test_parts_are_the_file_s_rows(self, data: st.DataObject, dialect: Dialect, chunk_bytes: int) -> None:
        pieces = data.draw(cut_texts(dialect))
        file = b"".join(pieces)
        rows: list[tuple[str, ...]] = []
        for text, count in texts(pieces, dialect, chunk_bytes):
            own = _rows(text, dialect)
            assert len(own) == count > 0
            rows += own
        assert rows == _rows(file, dialect)

    @fuzz
    @given(st.data(), st.just(Dialect()) | dialects(), CHUNK_BYTES)
    def test_parts_lie_where_the_splitter_cuts(self, data: st.DataObject, dialect: Dialect, chunk_bytes: int) -> None:
        pieces = data.draw(cut_texts(dialect))
        file = b"".join(pieces)
        parts = compose(scan(pieces, dialect, chunk_bytes), START_BYTE)
        assert sum(rows for _, rows in parts) == _split_rows(file, dialect)
        for part, _ in parts[1:]:
            place = skip_rows([file], Position(0, START_BYTE), part.first_row, dialect)
            assert place.row == part.first_row
            assert place.byte_offset <= part.start_byte  # blank lines may lie between
            assert not file[place.byte_offset - START_BYTE : part.start_byte - START_BYTE].strip(b"\r\n")


def _rows(text: bytes, dialect: Dialect) -> list[tuple[str, ...]]:
    return [row for row in slowcsv.rows(text.decode(), dialect) if row]


def _split_rows(file: bytes, dialect: Dialect) -> int:
    """How many rows the splitter finds, one that it refuses among them."""
    end = Position(0, START_BYTE)
    try:
        for block in split([file], end, dialect, lambda: 7):
            end = block.end
    except BadRow:
        return end.row + 1
    return end.row
