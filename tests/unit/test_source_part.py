"""A part of a file: reads that end with it, progress of its own, positions of the whole text."""

from __future__ import annotations

from pathlib import Path

import pytest

from csv2kafka import human, plan, proof, shaping
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.errors import JobConflict, UsageError
from csv2kafka.keeper import Keeper
from csv2kafka.model import Checkpoint, Dialect, Header, Part, Position, RecordShape, TextFormat
from csv2kafka.sources import Source, open_source
from csv2kafka.sources.part import as_part
from csv2kafka.tracker import Progress

TEXT = b"a\n" + b"".join(b"%03d\n" % row for row in range(100))  # row n (from 1) at 2 + 4 * (n - 1)
PART = Part(10, 42, 122)  # rows 11 to 30
SHAPE = RecordShape(("a",), part=PART)


@pytest.fixture
def whole(tmp_path: Path) -> Source:
    path = tmp_path / "data.csv"
    path.write_bytes(TEXT)
    return open_source(str(path))


@pytest.fixture
def source(whole: Source) -> Source:
    return as_part(whole, TextFormat(), PART)


@pytest.mark.parametrize("offset", [0, 1, 42, 43, 121, 122])
def test_reading_ends_with_the_part(source: Source, offset: int) -> None:
    assert b"".join(source.read_from(offset)) == TEXT[offset:122]
    assert source.read_at(offset, 1_000) == TEXT[offset:122]
    assert source.read_at(offset, 3) == TEXT[offset : min(122, offset + 3)]


@pytest.mark.parametrize("offset", [-1, 123])
def test_what_lies_outside_is_the_callers_mistake(source: Source, offset: int) -> None:
    with pytest.raises(ValueError, match="behind the part"):
        source.read_from(offset)
    with pytest.raises(ValueError, match="behind the part"):
        source.read_at(offset, 1)


@pytest.mark.parametrize("part", [Part(0, 42, len(TEXT) + 1), Part(0, 43, 42), Part(0, -1, 42)])
def test_a_part_lies_in_the_file(whole: Source, part: Part) -> None:
    with pytest.raises(ValueError, match=r"outside|are no part"):
        as_part(whole, TextFormat(), part)


def test_progress_is_the_parts_and_the_identity_the_files(source: Source, whole: Source) -> None:
    assert [source.object_bytes(at) for at in (0, 42, 62, 122)] == [0, 0, 20, 80]
    assert (source.object_size_bytes, source.start_byte) == (80, 42)
    assert source.identity == whole.identity
    assert (whole.object_size_bytes, whole.start_byte) == (len(TEXT), 0)


def test_closing_a_part_closes_the_file(source: Source, whole: Source) -> None:
    source.close()
    with pytest.raises(ValueError, match="closed"):
        next(whole.read_from(0))


def test_without_a_part_nothing_lies_between(whole: Source) -> None:
    assert as_part(whole, TextFormat("gzip"), None) is whole


@pytest.mark.parametrize(
    ("text", "how"), [(TextFormat("zstd"), r"compressed \(zstd\)"), (TextFormat(None, "latin-1"), "in LATIN-1")]
)
def test_only_plain_utf8_has_parts(whole: Source, text: TextFormat, how: str) -> None:
    with pytest.raises(UsageError, match=f"is {how}: only all of it can be loaded"):
        as_part(whole, text, PART)


def test_rows_missing_behind_a_parts_beginning(source: Source) -> None:
    start = Position(10, 42)
    assert proof.row_after(source, Dialect(), start, 20) == Position(30, 122)
    with pytest.raises(JobConflict, match="has 20 rows behind row 10, but 21 were sent"):
        proof.row_after(source, Dialect(), start, 21)


class TestShape:
    def test_the_fingerprint_has_it_only_when_given(self) -> None:
        assert '"part":[10,42,122]' in SHAPE.as_json()
        assert "part" not in RecordShape(("a",)).as_json()
        assert shaping.shape_from(SHAPE.as_json()) == SHAPE
        assert shaping.shape_from(RecordShape(("a",)).as_json()).part is None
        assert shaping.shape_from(RecordShape(("a",), part=Part(0, 0, 0)).as_json()).part == Part(0, 0, 0)

    def test_records_of_a_part_need_no_plan(self) -> None:
        assert plan.is_plain(SHAPE)

    def test_rows_begin_where_the_part_does(self) -> None:
        assert shaping.start_of(SHAPE, Header(("a",), 2)) == Position(10, 42)
        assert shaping.start_of(RecordShape(("a",)), Header(("a",), 2)) == Position(0, 2)
        with pytest.raises(ValueError, match="within the header, which ends at 43"):
            shaping.start_of(SHAPE, Header(("a",), 43))


def test_a_checkpoint_counts_the_parts_rows_and_bytes() -> None:
    shape = SHAPE.as_json()
    found = Checkpoint("job", last_line=15, byte_offset=62, record_shape=shape)
    assert (found.part, found.rows, found.bytes) == (PART, 5, 20)
    whole = Checkpoint("job", last_line=15, byte_offset=62, record_shape=RecordShape(("a",)).as_json())
    assert (whole.part, whole.rows, whole.bytes) == (None, 15, 62)
    assert (Checkpoint("job").part, Checkpoint("job", 7).rows, Checkpoint("job").bytes) == (None, 7, 0)


def test_a_sample_counts_the_parts_rows_and_bytes(source: Source, tmp_path: Path) -> None:
    shape = SHAPE.as_json()
    begun = Checkpoint("job", last_line=15, byte_offset=62, record_shape=shape)
    progress = Progress(0.0, 0.0, bytes_before=0, rows_before=0)
    progress.begin(begun, source)
    keeper = Keeper(SqliteStore(tmp_path / "checkpoints.db"), begun, patience_s=1.0)
    now = Checkpoint("job", last_line=25, byte_offset=102, record_shape=shape)
    told = progress.sample(now, source, keeper, (), rows_total=None)
    assert (told.rows, told.rows_before, told.bytes_done, told.bytes_before, told.bytes_total) == (15, 5, 60, 20, 80)
    assert told.checkpoint_lag_rows == 10


@pytest.mark.parametrize(
    ("rows", "words"), [(20, "rows 11 to 30"), (1, "row 11"), (0, "no rows from 11 on"), (2_000, "rows 11 to 2,010")]
)
def test_rows_in_words(rows: int, words: str) -> None:
    assert human.rows_of(PART, rows) == words


def test_parts_in_words() -> None:
    assert human.part(Part(1_000_000, 42_000_000, 84_000_000)) == (
        "the rows from 1,000,001 on (bytes 42,000,000 to 84,000,000)"
    )
    assert human.part(None) == "all rows"
