"""Bad rows set apart: their records, their lines, how many are borne, and the file that holds each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from csv2kafka import quarantine, recordbatch
from csv2kafka.errors import BadRow, ConfigError, Csv2KafkaError, JobConflict, Retryable
from csv2kafka.model import Position, Quarantine, QuarantinedRow, SourceIdentity
from csv2kafka.quarantine import SetApart, Tolerance
from csv2kafka.quarantine_file import QuarantineFile, lines
from tests.support import bad_rows, csv_oracle

SOURCE = SourceIdentity("s3://bucket/é.csv", 100, "etag", "v7")
SHORT = QuarantinedRow(7, 4_000_000_000, b"a,b", "has 2 fields where the header has 3")
BINARY = QuarantinedRow(9, 4_000_000_090, b"\xff,b,c", "is not valid UTF-8")
LZ4 = recordbatch.CODECS["lz4"]


class TestRecords:
    def test_another_reader_finds_them_in_the_batch(self) -> None:
        batch = SetApart(SOURCE, 1 << 20).batch_of((SHORT, BINARY), 3, LZ4)
        records = csv_oracle.parse(recordbatch.decompress(LZ4, memoryview(batch.records)))
        assert (batch.lane, batch.rows, batch.codec) == (3, 2, LZ4)
        assert [record.value for record in records] == [b"a,b", b"\xff,b,c"]
        assert records[0].headers == (
            ("file.name", "s3://bucket/é.csv".encode()),
            ("file.version", b"v7"),
            ("file.offset", b"4000000000"),
            ("file.length", b"3"),
            ("csv.row", b"7"),
            ("error.reason", b"has 2 fields where the header has 3"),
        )

    def test_the_way_back(self) -> None:
        records = recordbatch.decompress(LZ4, memoryview(SetApart(SOURCE, 1 << 20).batch_of((SHORT,), 0, LZ4).records))
        value, headers = recordbatch.unframe(recordbatch.bodies(records)[0])
        assert quarantine.line_of_record(value, headers) == quarantine.line_of(SHORT, SOURCE)

    def test_the_size_is_never_told_too_small(self) -> None:
        apart = SetApart(SOURCE, 1 << 20)
        for row in (SHORT, BINARY, QuarantinedRow(1 << 40, 1 << 50, b"x" * 70_000, "é" * 200)):
            assert apart.batch_of((row,), 0, 0).uncompressed_bytes <= apart.size_bytes(row)

    def test_one_that_fits_into_no_batch_is_refused(self) -> None:
        apart = SetApart(SOURCE, 600)
        bad = BadRow(Position(6, 40), 1040, "has 1 field where the header has 3", hint="mend it")
        row = QuarantinedRow(7, 40, b"x" * 1000, bad.reason)
        refusal = apart.refusal(bad, row, 0)
        assert refusal is not None
        assert "row 7" in refusal.message
        assert "more than the dead-letter topic's max.message.bytes (600)" in refusal.message
        assert "max.message.bytes to " in refusal.hint
        assert apart.refusal(bad, row, LZ4) is None  # compressed it fits
        assert SetApart(SOURCE).refusal(bad, row, 0) is None


class TestLines:
    def test_text_and_bytes(self) -> None:
        assert quarantine.line_of(SHORT, SOURCE).decode() == (
            '{"file.name":"s3://bucket/é.csv","file.version":"v7","file.offset":4000000000,"file.length":3,'
            '"csv.row":7,"error.reason":"has 2 fields where the header has 3","value":"a,b"}\n'
        )
        for row in (SHORT, BINARY):
            line = quarantine.line_of(row, SOURCE)
            assert quarantine.text_of_line(line) == row.text
            assert bad_rows.of_line(line, SOURCE.uri).text == row.text

    @pytest.mark.parametrize("line", [b"", b"no JSON", b"{}", b"[]", b'{"value":1}'])
    def test_anything_else_is_refused(self, line: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - of json as well
            quarantine.text_of_line(line)


class TestTally:
    def test_rows_are_counted_by_reason(self) -> None:
        tally = quarantine.plus(Quarantine("t.bad"), (SHORT, BINARY, SHORT), 12)
        assert (tally.rows, tally.file_bytes) == (3, 12)
        assert tally.reasons == ((SHORT.reason, 2), (BINARY.reason, 1))

    def test_a_checkpoint_stays_small(self) -> None:
        rows = [QuarantinedRow(number, 0, b"", f"has {number} fields where the header has 1") for number in range(900)]
        tally = quarantine.plus(quarantine.plus(Quarantine("t.bad"), rows[:45], 0), rows[45:], 0)
        assert tally.rows == sum(count for _, count in tally.reasons) == 900
        assert len(tally.reasons) == 51
        assert tally.reasons[-1] == ("other reasons", 850)


class TestTolerance:
    @pytest.mark.parametrize(
        ("text", "tolerance"),
        [("0", Tolerance(0)), ("250", Tolerance(250)), ("0.5%", Tolerance(share=0.005)), ("100 %", Tolerance(share=1))],
    )
    def test_numbers_and_shares(self, text: str, tolerance: Tolerance) -> None:
        assert Tolerance.parse(text) == tolerance

    @pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "101%", "-1%", "nan%", "many", "1e3"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - of float as well
            Tolerance.parse(text)

    def test_excess(self) -> None:
        assert Tolerance().excess(10**9, 10**9, is_end=True) is None
        assert Tolerance(2).excess(2, 2, is_end=True) is None
        error = Tolerance(2).excess(3, 10, is_end=False)
        assert error is not None
        assert error.exit_code == 65
        assert error.message == "3 of the first 10 rows are bad, more than --max-bad-rows 2 allows"

    def test_a_share_of_few_rows_says_little(self) -> None:
        share = Tolerance(share=0.01)
        assert share.excess(5, 10, is_end=False) is None
        assert share.excess(5, 10, is_end=True) is not None
        assert share.excess(10, 1000, is_end=False) is None
        assert share.excess(11, 1000, is_end=False) is not None


@pytest.mark.parametrize(
    ("place", "words"), [("t.bad", ()), ("u.bad", ("in t.bad until now", "u.bad")), (None, ("began with --bad-rows",))]
)
def test_a_jobs_bad_rows_stay_in_one_place(place: str | None, words: tuple[str, ...]) -> None:
    begun = Quarantine("t.bad", rows=3)
    quarantine.refuse_other_place(None, place)
    if not words:
        quarantine.refuse_other_place(begun, place)
        return
    with pytest.raises(JobConflict) as refused:
        quarantine.refuse_other_place(begun, place)
    assert all(word in refused.value.message for word in words)
    assert "--bad-rows-to t.bad" in refused.value.hint


class TestFile:
    def test_each_row_is_there_once_whatever_was_written_behind_the_checkpoint(self, tmp_path: Path) -> None:
        file, path = QuarantineFile((tmp_path / "bad rows").as_uri(), SOURCE), tmp_path / "bad rows"
        begun = Quarantine(path.as_uri())
        file.rewind(begun, is_new=True)
        known = quarantine.plus(begun, (SHORT,), file.write((SHORT,), 0))
        file.write((BINARY, SHORT), known.file_bytes)  # which no checkpoint came to know
        file.rewind(known, is_new=False)
        assert list(lines(known)) == [quarantine.line_of(SHORT, SOURCE)]
        end = file.write((BINARY,), known.file_bytes)
        assert path.read_bytes() == quarantine.line_of(SHORT, SOURCE) + quarantine.line_of(BINARY, SOURCE)
        assert path.stat().st_size == end

    def test_a_late_writer_of_the_same_rows_changes_nothing(self, tmp_path: Path) -> None:
        file, path = QuarantineFile((tmp_path / "bad").as_uri(), SOURCE), tmp_path / "bad"
        file.rewind(Quarantine(path.as_uri()), is_new=True)
        end = file.write((SHORT, BINARY), 0)
        file.write((SHORT,), 0)
        assert path.stat().st_size == end

    def test_a_file_of_somebody_else_is_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "mine"
        path.write_text("precious")
        with pytest.raises(JobConflict, match="not this job's"):
            QuarantineFile(path.as_uri(), SOURCE).rewind(Quarantine(path.as_uri()), is_new=True)
        assert path.read_text() == "precious"

    def test_a_file_cut_short_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "bad"
        known = Quarantine(path.as_uri(), rows=1, file_bytes=10)
        with pytest.raises(JobConflict, match="has 0 bytes, but this job has written 10"):
            QuarantineFile(path.as_uri(), SOURCE).rewind(known, is_new=False)
        with pytest.raises(JobConflict, match="not what this job has written"):
            list(lines(known))

    @pytest.mark.parametrize(
        ("path", "error"), [("no folder/bad", ConfigError), ("", ConfigError), ("/dev/full", Retryable)]
    )
    def test_what_cannot_be_written(self, tmp_path: Path, path: str, error: type[Csv2KafkaError]) -> None:
        file = QuarantineFile((tmp_path / path).as_uri(), SOURCE)
        with pytest.raises(error) as raised:
            file.write((SHORT,), 0)
        assert raised.value.hint

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            list(lines(Quarantine((tmp_path / "gone").as_uri(), file_bytes=1)))
