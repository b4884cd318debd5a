"""The receipt as people and machines read it, and the ETA and numbers that go with it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from csv2kafka import human, receipt
from csv2kafka.eta import eta_s
from csv2kafka.model import SourceIdentity
from csv2kafka.receipt import LaneReceipt, Receipt

COMPLETE = Receipt(
    job_id="orders-0a1b2c",
    source=SourceIdentity("s3://bucket/orders.csv", 330_000_000, '"9b2cf5"', "v7"),
    topic="orders",
    partitions=(LaneReceipt("orders", 3, 10, 5_000_011),),
    status="complete",
    rows=5_000_000,
    rows_this_run=5_000_000,
    bytes=330_000_000,
    delivery="fenced",
    takeovers=1,
    foreign_records=0,
    duration_s=2.0,
    rows_per_s=2_500_000.0,
    resumed_at_row=0,
    startup_s=0.6,
)


def table(text: str) -> dict[str, str]:
    lines = [line.strip().partition("  ") for line in text.splitlines()[2:]]
    return {name: value.strip() for name, _, value in lines}


class TestText:
    def test_a_complete_job(self) -> None:
        text = receipt.as_text(COMPLETE)
        assert text.splitlines()[0] == "complete: 5,000,000 rows of s3://bucket/orders.csv in orders"
        assert table(text) == {
            "job": "orders-0a1b2c",
            "source": "s3://bucket/orders.csv",
            "identity": 'etag "9b2cf5", version v7',
            "topic": "orders, partition 3",
            "offsets": "10 to 5,000,010 (1 marker among them)",
            "rows": "5,000,000",
            "bytes": "330,000,000 (330 MB)",
            "duration": "2.0 s, the first row after 0.6 s",
            "speed": "2,500,000 rows/s, 165 MB/s",
        }

    def test_values_stand_in_one_column(self) -> None:
        lines = receipt.as_text(replace(COMPLETE, takeovers=2)).splitlines()[2:]
        assert {line[: line.index("  ", 2)].strip() for line in lines} >= {"job", "take-overs"}
        assert {len(line) - len(line[12:].lstrip()) for line in lines} == {14}

    def test_a_resumed_run_says_what_it_did_itself(self) -> None:
        resumed = replace(COMPLETE, rows_this_run=1_000_000, resumed_at_row=4_000_000)
        assert table(receipt.as_text(resumed))["rows"] == "5,000,000 (1,000,000 in this run, from row 4,000,001 on)"

    def test_a_stopped_run_says_how_to_go_on(self) -> None:
        text = receipt.as_text(replace(COMPLETE, status="stopped", rows=1, rows_this_run=1, bytes=66))
        assert text.startswith("stopped after 1 row, ")
        assert "run the same command again" in text.splitlines()[0]
        assert table(text)["bytes"] == "66 of 330,000,000 (66 B)"

    def test_a_job_that_was_complete_already_has_no_speed(self) -> None:
        text = receipt.as_text(replace(COMPLETE, status="already complete", rows_this_run=0, rows_per_s=0.0))
        assert text.startswith("already complete: 5,000,000 rows")
        assert table(text)["rows"] == "5,000,000 (none left for this run)"
        assert not {"duration", "speed"} & table(text).keys()

    def test_several_partitions(self) -> None:
        lanes = (LaneReceipt("orders", 0, 0, 5), LaneReceipt("orders", 1, 7, 7), LaneReceipt("orders", 2, 1, 3))
        several = replace(COMPLETE, partitions=lanes)
        lines = table(receipt.as_text(several))
        assert (lines["topic"], lines["offsets"]) == ("orders, 3 partitions", "0: 0 to 4, 2: 1 to 2")
        assert receipt.as_dict(several)["first_offset"] is None

    def test_a_weaker_promise_and_other_programs_records_are_said(self) -> None:
        lines = table(receipt.as_text(replace(COMPLETE, delivery="lease-only", foreign_records=2)))
        assert lines["delivery"] == "lease-only"
        assert lines["others"] == "2 records of other programs between the rows"

    def test_a_file_without_rows(self) -> None:
        empty = replace(COMPLETE, rows=0, rows_this_run=0, bytes=12, rows_per_s=0.0, startup_s=None)
        empty = replace(empty, partitions=(LaneReceipt("orders", 3, 10, 10),))
        assert table(receipt.as_text(empty))["offsets"] == "none"
        assert receipt.as_dict(empty)["bytes_per_s"] == 0


class TestJson:
    def test_every_field_is_there_and_the_source_is_nested(self) -> None:
        fields = json.loads(json.dumps(receipt.as_dict(COMPLETE)))
        assert fields["source"] == {
            "uri": "s3://bucket/orders.csv",
            "size_bytes": 330_000_000,
            "etag": '"9b2cf5"',
            "version_id": "v7",
        }
        assert fields["bytes_per_s"] == 165_000_000
        assert fields.keys() == {
            *Receipt.__dataclass_fields__,
            "partition",
            "first_offset",
            "next_offset",
            "bytes_per_s",
        }

    def test_throughput_of_a_resumed_run_counts_its_own_rows_only(self) -> None:
        resumed = replace(COMPLETE, rows_this_run=1_000_000, rows_per_s=500_000.0)
        assert receipt.bytes_per_s(resumed) == 500_000 * 66


class TestEta:
    def test_what_is_left_takes_as_long_as_what_is_done(self) -> None:
        assert eta_s(10_000, 100_000, 10.0) == pytest.approx(90.0)

    @pytest.mark.parametrize(("done", "total", "elapsed_s"), [(1, None, 1.0), (0, 10, 1.0), (1, 10, 0.0), (-1, 10, 1)])
    def test_there_is_none_while_there_is_no_telling(self, done: float, total: float | None, elapsed_s: float) -> None:
        assert eta_s(done, total, elapsed_s) is None

    def test_it_never_falls_below_zero(self) -> None:
        assert eta_s(11, 10, 1.0) == 0


class TestNumbers:
    @pytest.mark.parametrize(
        ("number", "text"),
        [(0, "0"), (999, "999"), (999.6, "1.00 k"), (2_770_000, "2.77 M"), (99_960, "100 k"), (33_149, "33.1 k")],
    )
    def test_short(self, number: float, text: str) -> None:
        assert human.short(number) == text

    def test_sizes(self) -> None:
        assert [human.size(n) for n in (5, 1_500, 3_000_000_000)] == ["5 B", "1.50 kB", "3.00 GB"]

    def test_times(self) -> None:
        assert [human.clock(s) for s in (0, 59.6, 3_725)] == ["0:00", "1:00", "1:02:05"]
        assert [human.duration(s) for s in (1.84, 75)] == ["1.8 s", "1:15"]
        assert [human.plural(n, "row") for n in (0, 1, 1_000)] == ["0 rows", "1 row", "1,000 rows"]
