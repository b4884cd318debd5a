"""The small functions that the rest leans on: ETA, names, numbers as people read them, one record at a time."""

from __future__ import annotations

import csv
import itertools
import json
import re
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2kafka import human, receipt
from csv2kafka.checkpoints.item import total_lines_key
from csv2kafka.clock import boottime_s
from csv2kafka.errors import BadRow, JobConflict
from csv2kafka.eta import eta_s
from csv2kafka.jobs import _refuse_other_shape
from csv2kafka.model import (
    Block,
    Checkpoint,
    Dialect,
    Field,
    Kind,
    Naming,
    Portion,
    Position,
    RecordShape,
    SourceIdentity,
)
from csv2kafka.receipt import LaneReceipt, Receipt
from csv2kafka.settings import default_job_id
from csv2kafka.slowcsv import fields
from csv2kafka.sources import check_offset, lines_of

patient = settings(deadline=None)  # no test here may depend on how fast the machine is
RUN = Receipt(
    job_id="job",
    source=SourceIdentity("s3://bucket/key.csv", 1_000, '"etag"'),
    topic="topic",
    partitions=(LaneReceipt("topic", 0, 0, 101),),
    status="complete",
    rows=100,
    rows_this_run=100,
    bytes=1_000,
    delivery="fenced",
    takeovers=1,
    foreign_records=0,
    duration_s=2.0,
    rows_per_s=50.0,
    resumed_at_row=0,
    startup_s=None,
)


class TestEta:
    def test_half_way_as_long_again(self) -> None:
        assert eta_s(500, 1_000, 30.0) == pytest.approx(30.0)

    def test_no_total_no_eta(self) -> None:
        assert eta_s(500, None, 30.0) is None

    @pytest.mark.parametrize(("done", "elapsed_s"), [(0, 30.0), (500, 0.0), (-1, 30.0), (500, -1.0)])
    def test_nothing_to_go_by(self, done: float, elapsed_s: float) -> None:
        assert eta_s(done, 1_000, elapsed_s) is None

    def test_everything_done(self) -> None:
        assert eta_s(1_000, 1_000, 30.0) == 0
        assert eta_s(1_001, 1_000, 30.0) == 0
        assert eta_s(1, 0, 1.0) == 0

    @patient
    @given(st.integers(1, 10**12), st.integers(0, 10**12), st.floats(1e-3, 1e6))
    def test_rate_times_eta_is_what_is_left(self, done: int, left: int, elapsed_s: float) -> None:
        eta = eta_s(done, done + left, elapsed_s)
        assert eta is not None
        assert done / elapsed_s * eta == pytest.approx(left)


class TestDefaultJobId:
    def test_it_can_be_read_and_is_the_same_every_time(self) -> None:
        name = default_job_id("s3://bucket/year=2026/orders.csv", "orders", 3)

        assert re.fullmatch(r"orders\.csv-orders-3-[0-9a-f]{8}", name)
        assert name == default_job_id("s3://bucket/year=2026/orders.csv", "orders", 3)

    def test_source_topic_and_partition_all_count(self) -> None:
        ids = {
            default_job_id(source, topic, partition)
            for source in ("s3://one/a.csv", "s3://two/a.csv", "a.csv")
            for topic in ("a", "b")
            for partition in (0, 1)
        }
        assert len(ids) == 12

    def test_no_partition_is_the_first_one(self) -> None:
        assert default_job_id("s3://bucket/key", "topic", None) == default_job_id("s3://bucket/key", "topic", 0)

    def test_a_path_is_the_same_file_from_every_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        absolute = default_job_id(str(tmp_path / "rows.csv"), "topic", 0)
        monkeypatch.chdir(tmp_path)

        assert default_job_id("rows.csv", "topic", 0) == absolute
        assert default_job_id("./sub/../rows.csv", "topic", 0) == absolute

    @patient
    @given(st.text("aZ9._-/?#% é😀\n", min_size=1))
    def test_any_key_makes_a_name_that_every_store_and_broker_takes(self, key: str) -> None:
        name = default_job_id(f"s3://bucket/{key}", "topic", 0)

        assert re.fullmatch(r"[A-Za-z0-9._-]{1,255}", name)


class TestRecordShape:
    COLUMNS = ("id", "größe")

    def test_without_options_it_is_what_checkpoints_have_always_held(self) -> None:
        assert RecordShape(self.COLUMNS, Dialect(";")).as_json() == (
            '{"format":"json","delimiter":";","quote":"\\"","columns":["id","größe"]}'
        )

    @pytest.mark.parametrize(
        "option",
        [
            {"dialect": Dialect(escape="\\")},
            {"naming": Naming(skip_lines=1)},
            {"naming": Naming(has_header=False)},
            {"null_value": ""},
            {"null_value": "NA"},
            {"fields": (Field("id", Kind.INT), Field("größe"))},
            {"fields": (Field("id", nullable=True), Field("größe"))},
            {"fields": (Field("id", nullable=False), Field("größe"))},
            {"key": ("id",)},
            {"value_format": "csv"},
            {"file_name": "a.csv"},
            {"headers": (("a", ""),)},
        ],
    )
    def test_each_option_makes_another_shape(self, option: dict[str, Any]) -> None:
        assert RecordShape(self.COLUMNS, **option).as_json() != RecordShape(self.COLUMNS).as_json()

    def test_a_job_goes_on_with_the_same_shape_or_one_that_was_never_noted(self) -> None:
        shape = RecordShape(self.COLUMNS).as_json()

        _refuse_other_shape(Checkpoint("job", record_shape=shape), shape)
        _refuse_other_shape(Checkpoint("job", last_line=500), shape)

    def test_another_shape_is_refused_and_says_what_differs(self) -> None:
        then = RecordShape(self.COLUMNS, Dialect(";")).as_json()

        with pytest.raises(JobConflict, match=r"delimiter: ';' then, ',' now") as caught:
            _refuse_other_shape(Checkpoint("job", record_shape=then), RecordShape(self.COLUMNS).as_json())
        assert caught.value.exit_code == 78
        assert "columns" not in caught.value.message

    def test_an_option_that_is_not_given_any_more_is_told_as_well(self) -> None:
        then = RecordShape(self.COLUMNS, key=("id",)).as_json()

        with pytest.raises(JobConflict, match=r"key: \['id'\] then, None now"):
            _refuse_other_shape(Checkpoint("job", record_shape=then), RecordShape(self.COLUMNS).as_json())


class TestSlowCsv:
    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ("", ()),
            ("\n", ()),
            ("a", ("a",)),
            ("a,,c\r\n", ("a", "", "c")),
            ('"a,""b""\nc",d', ('a,"b"\nc', "d")),
            ('"x"y,z', ("xy", "z")),
            ("a\rb", ("a",)),
        ],
    )
    def test_fields(self, record: str, expected: tuple[str, ...]) -> None:
        assert fields(record, Dialect()) == expected

    def test_another_dialect(self) -> None:
        assert fields("a,b;'c;d'", Dialect(";", "'")) == ("a,b", "c;d")

    def test_a_field_of_any_length_and_the_limit_of_others_stays(self) -> None:
        before = csv.field_size_limit(1_000)
        try:
            assert fields("x" * 200_000, Dialect()) == ("x" * 200_000,)
            assert csv.field_size_limit() == 1_000
        finally:
            csv.field_size_limit(before)

    def test_threads_do_not_lower_each_others_limit(self) -> None:
        record = "x" * 200_000
        found: list[tuple[str, ...]] = []
        threads = [
            threading.Thread(target=lambda text=text: found.append(fields(text, Dialect())))
            for text in (record, "a") * 8
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(len, (row[0] for row in found))) == [1] * 8 + [200_000] * 8


class TestHuman:
    @patient
    @given(st.floats(0, 1e17))
    def test_short_numbers_are_short_and_near(self, number: float) -> None:
        match = re.fullmatch(r"(\d{1,3}|\d\.\d\d|\d\d\.\d)( [kMGTP])?", human.short(number))

        assert match
        power = " kMGTP".index((match[2] or "  ").strip() or " ")
        assert float(match[1]) * 1000**power == pytest.approx(number, rel=0.005, abs=0.5)

    def test_sizes_have_a_space_before_their_unit(self) -> None:
        assert human.size(0) == "0 B"
        assert human.size(999) == "999 B"
        assert human.size(66_000_000) == "66.0 MB"

    @patient
    @given(st.integers(0, 10**6))
    def test_clocks_count_seconds(self, seconds: int) -> None:
        *hours, minutes, rest = map(int, human.clock(seconds).split(":"))

        assert sum(hours) * 3600 + minutes * 60 + rest == seconds
        assert rest < 60
        assert not hours or minutes < 60

    def test_durations_below_a_minute_have_a_tenth(self) -> None:
        assert human.duration(0.04) == "0.0 s"
        assert human.duration(59.94) == "59.9 s"
        assert human.duration(61) == "1:01"

    def test_one_is_not_many(self) -> None:
        assert (human.plural(1, "row"), human.plural(2_000, "row")) == ("1 row", "2,000 rows")


class TestReceiptHelpers:
    def test_bytes_follow_rows(self) -> None:
        assert receipt.bytes_per_s(RUN) == pytest.approx(500.0)

    def test_json_keeps_every_field(self) -> None:
        shown = json.loads(json.dumps(receipt.as_dict(RUN)))

        assert shown.pop("bytes_per_s") == 500.0
        assert [shown.pop(name) for name in ("partition", "first_offset", "next_offset")] == [0, 0, 101]
        assert shown == json.loads(json.dumps(asdict(RUN)))

    def test_text_begins_with_what_happened(self) -> None:
        assert receipt.as_text(RUN).splitlines()[0] == "complete: 100 rows of s3://bucket/key.csv in topic"


class TestSourceHelpers:
    @patient
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
    def test_lines_are_those_of_a_file_however_the_bytes_are_cut(self, data: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        chunks = [data[start:end] for start, end in itertools.pairwise(places)]

        assert list(lines_of(chunks)) == [line for line in re.split(rb"(?<=\n)", data) if line]

    def test_an_offset_outside_the_object_is_a_mistake(self) -> None:
        check_offset(0, RUN.source)
        check_offset(1_000, RUN.source)
        for offset_bytes in (-1, 1_001):
            with pytest.raises(ValueError, match="has 1000 bytes"):
                check_offset(offset_bytes, RUN.source)


class TestSmallThings:
    def test_the_clock_never_goes_back(self) -> None:
        assert 0 < boottime_s() <= boottime_s()

    def test_the_count_of_lines_has_a_key_of_its_own_for_each_job(self) -> None:
        assert total_lines_key("a") not in {"a", total_lines_key("b")}

    def test_positions_come_in_the_order_of_the_file(self) -> None:
        assert Position(1, 20) < Position(2, 10) < Position(2, 11)

    def test_what_lies_behind_a_block_and_in_a_batch(self) -> None:
        block = Block(b"1\n2\n----", 4, Position(10, 100), 2)

        assert block.end == Position(12, 104)
        assert Portion(block.start, block.end, ()).rows == 2

    def test_a_checkpoint_of_lines_alone_has_no_position(self) -> None:
        assert Checkpoint("job", last_line=5).position is None
        assert Checkpoint("job", last_line=5, byte_offset=50).position == Position(5, 50)

    def test_a_bad_row_counts_from_one_and_says_what_is_safe(self) -> None:
        error = BadRow(Position(499, 8_000), 8_012, "has 2 fields where the header has 3", hint="mend it")

        assert str(error) == (
            "row 500 (bytes 8000 to 8012) has 2 fields where the header has 3; the job's rows before it are safe"
        )
        assert (error.exit_code, error.hint) == (65, "mend it")
