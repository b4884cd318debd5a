"""What a fleet came to, for people and as JSON; and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from csv2kafka.fleet import report
from csv2kafka.fleet.manifest import Entry
from csv2kafka.fleet.report import FileReceipt, FleetReceipt
from csv2kafka.model import Checkpoint, LanePosition, LogPosition, Quarantine
from csv2kafka.receipt import LaneReceipt, QuarantineReceipt, Receipt
from tests.unit.test_fleet_manifest import MANIFEST, PARTED
from tests.unit.test_receipt import COMPLETE

FAILURE = {
    "error": "row 11 has 3 fields",
    "hint": "mend the file",
    "exit_code": 65,
    "worker": "tcp://a:1",
    "attempts": 1,
}


def receipt_of(entry: Entry, **changes: Any) -> Receipt:
    """Of an entry's job that sent ten rows."""
    lane = LaneReceipt("orders", entry.partition, 100, 111)
    own = {"source": entry.source, "part": entry.part, "partitions": (lane,), "rows": 10, "crc32c": "0a0b0c0d"}
    return replace(COMPLETE, **own | changes)


def file(index: int, status: str, **more: Any) -> FileReceipt:
    return report.of_entry(MANIFEST, MANIFEST.entries[index], status, **more)


DONE = file(0, report.COMPLETE, **report.of_receipt(receipt_of(MANIFEST.entries[0])))
ALL_DONE = FleetReceipt(
    "nightly",
    "s3://bucket/in/",
    "orders",
    "hash",
    report.COMPLETE,
    (DONE, replace(DONE, index=1, job_id="nightly/00001", partition=0)),
    rows=20,
    rows_this_run=20,
    bytes=2_000,
    bad_rows=0,
    duration_s=4.0,
    rows_per_s=5.0,
)
ONE_FAILED = replace(ALL_DONE, status=report.FAILED, files=(DONE, file(1, report.FAILED, **FAILURE)), rows=10)


def table(text: str) -> dict[str, str]:
    lines = [line.strip().partition("  ") for line in text.splitlines()[2:]]
    return {name: value.strip() for name, _, value in lines}


class TestText:
    def test_all_complete(self) -> None:
        text = report.as_text(ALL_DONE)
        assert text.splitlines()[0] == "complete: 20 rows of 2 files in orders"
        assert table(text) == {
            "fleet": "nightly",
            "source": "s3://bucket/in/",
            "topic": "orders, 2 partitions",
            "files": "2 of 2 files complete",
            "rows": "20",
            "bytes": "2,000 (2.00 kB)",
            "duration": "4.0 s",
            "speed": "5 rows/s",
        }

    def test_a_rerun_says_what_it_did_itself(self) -> None:
        assert table(report.as_text(replace(ALL_DONE, rows_this_run=7)))["rows"] == "20 (7 in this run)"
        nothing = table(report.as_text(replace(ALL_DONE, rows_this_run=0, bad_rows=3)))
        assert nothing["rows"] == "20 (0 in this run)"
        assert nothing["bad rows"] == "3"
        assert "speed" not in nothing

    def test_what_failed_is_named_with_what_to_do(self) -> None:
        text = report.as_text(ONE_FAILED)
        assert text.splitlines()[0] == "1 of 2 files failed; 10 rows are safe, and the same command tries again"
        assert "  files       1 of 2 files complete, 1 failed\n" in text
        uri = MANIFEST.entries[1].source.uri
        assert text.endswith(f"\n\n  nightly/00001  {uri}\n    row 11 has 3 fields\n    mend the file")

    def test_of_many_failures_the_first_are_shown(self) -> None:
        many = tuple(replace(ONE_FAILED.files[1], job_id=f"nightly/{n:05}") for n in range(23))
        text = report.as_text(replace(ONE_FAILED, files=many))
        assert text.count("mend the file") == 20
        assert text.endswith("\n  and 3 more: --json lists all")

    def test_all_other_states_are_counted(self) -> None:
        files = (DONE, file(1, "held back"), file(1, "waiting"), file(1, "stopped"), file(1, "waiting"))
        text = report.as_text(replace(ALL_DONE, status="stopped", files=files))
        assert text.splitlines()[0] == "stopped after 20 rows, which are safe: run the same command again to go on"
        assert table(text)["files"] == "1 of 5 files complete, 1 held back, 1 stopped, 2 waiting"

    def test_parts_are_called_parts(self) -> None:
        parts = tuple(
            report.of_entry(PARTED, entry, report.COMPLETE, **report.of_receipt(receipt_of(entry)))
            for entry in PARTED.entries
        )
        text = report.as_text(replace(ALL_DONE, files=parts))
        assert text.splitlines()[0] == "complete: 20 rows of 2 parts in orders"
        assert table(text)["parts"] == "2 of 2 parts complete"


def test_json_has_each_files_receipt() -> None:
    fields = json.loads(json.dumps(report.as_dict(ONE_FAILED)))
    assert {name: fields[name] for name in ("fleet", "status", "rows", "bytes", "failures", "exit_code")} == {
        "fleet": "nightly",
        "status": "failed",
        "rows": 10,
        "bytes": 2_000,
        "failures": 1,
        "exit_code": 65,
    }
    first, second = fields["files"]
    names = ("job_id", "partition", "status", "rows", "crc32c", "first_offset", "next_offset", "error")
    assert [first[name] for name in names] == ["nightly/00000", 3, "complete", 10, "0a0b0c0d", 100, 111, None]
    assert [second[name] for name in (*names, "hint", "exit_code", "worker", "attempts")] == [
        *("nightly/00001", 0, "failed", 0, None, None, None, "row 11 has 3 fields"),
        *("mend the file", 65, "tcp://a:1", 1),
    ]


@pytest.mark.parametrize(
    ("codes", "exit_code"),
    [((), 0), ((75,), 75), ((75, 66, 65), 66), ((75, 75), 75), ((70, 75), 70)],
)
def test_the_exit_code_is_of_what_will_not_pass_by_itself(codes: tuple[int, ...], exit_code: int) -> None:
    failed = (file(1, report.FAILED, **FAILURE | {"exit_code": code}) for code in codes)
    assert replace(ALL_DONE, files=(DONE, *failed)).exit_code == exit_code


def test_bad_rows_and_a_checkpoint_tell_the_same() -> None:
    entry = MANIFEST.entries[0]
    apart = QuarantineReceipt("orders.bad", 2, {"has 3 fields": 2})
    said = report.of_receipt(receipt_of(entry, quarantine=apart))
    lanes = (LanePosition("orders", "id", 3, 111, 100), LanePosition("orders.bad", "id 2", 0, 7, 5))
    log = LogPosition("cluster", lanes, ())
    quarantine = Quarantine("orders.bad", 2)
    checkpoint = Checkpoint("nightly/00000", 10, 8, crc32c=0x0A0B0C0D, log=log, quarantine=quarantine)
    assert report.of_checkpoint(checkpoint) == said
    assert said["bad_rows"] == 2
    nothing = report.of_checkpoint(Checkpoint("nightly/00000"))
    assert nothing == {"rows": 0, "bad_rows": 0, "crc32c": None, "first_offset": None, "next_offset": None}


class TestManifest:
    def test_as_text(self) -> None:
        first, second = (entry.source.uri for entry in MANIFEST.entries)
        assert report.manifest_text(MANIFEST, is_kept=True).splitlines() == [
            "2 files, 2.00 kB, s3://bucket/in/ -> orders (frozen as nightly)",
            "",
            "FILE  PARTITION  SIZE     WHAT",
            f"0     3          1.00 kB  {first}",
            f"1     0          1.00 kB  {second}",
        ]
        assert "(nothing was kept or sent)" in report.manifest_text(MANIFEST, is_kept=False)

    def test_of_parts(self) -> None:
        lines = report.manifest_text(PARTED, is_kept=False).splitlines()
        assert lines[0].startswith("2 parts, 990 B, ")
        assert lines[-1] == f"1     1          600 B  {PARTED.entries[1].source.uri} from row 18"

    def test_as_dict(self) -> None:
        fields = json.loads(json.dumps(report.manifest_dict(PARTED)))
        assert (fields["name"], fields["size_bytes"], len(fields["entries"])) == ("nightly", 990, 2)
        assert fields["entries"][1]["job_id"] == "nightly/00001"
        assert fields["entries"][1]["part"] == {"first_row": 17, "start_byte": 400, "end_byte": 1_000}
        assert fields["entries"][1]["source"]["etag"] == '"9b2cf5"'
