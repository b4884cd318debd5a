"""A checkpoint as an item and back: values changed behind the program's back are refused, also where each makes sense.

What the stores make of items is in test_checkpoint_contract.py.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from csv2kafka.checkpoints.item import Item, from_item, to_item
from csv2kafka.errors import JobConflict
from csv2kafka.model import Checkpoint, LanePosition, LogPosition, OwnMark, Quarantine, Restart, SourceIdentity

SAVED = Checkpoint(
    job_id="job",
    last_line=500,
    total_sent=500,
    byte_offset=33_000,
    source=SourceIdentity("s3://bucket/key", 66_000, '"etag"', "version"),
    record_shape='{"format":"json"}',
    log=LogPosition("cluster", (LanePosition("topic", "id", 0, 510, 9, OwnMark(4001, 7, 499)),), (17, 4001)),
    restart=Restart(32_768, 11_000),
    quarantine=Quarantine(
        "file:///bad", 3, (("has 2 fields where the header has 3", 2), ("is not valid UTF-8", 1)), 400
    ),
    timestamp="2026-01-16T00:00:00+00:00",
)


def stored() -> Item:
    """As DynamoDB returns it."""
    item = to_item(SAVED, SAVED.timestamp)
    return {name: Decimal(value) if isinstance(value, int) else value for name, value in item.items()}


def test_what_was_saved_comes_back() -> None:
    assert from_item(stored()) == SAVED
    assert from_item(stored() | {"timestamp": "another time"}) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"last_line": 501},
        {"byte_offset": 33_066},
        {"total_sent": 499},
        {"status": "COMPLETED"},
        {"kafka_next_offset": 511},
        {"producer_ids": "4001"},
        {"last_own_sequence": 498},
        {"source_version_id": None},
        {"restart_object_byte": 11_001},
        {"bad_rows": 2},
        {"bad_rows_to": "t.bad"},
        {"bad_rows_file_bytes": 399},
        {"bad_rows_reasons": None},
        {"job_id": "another"},
        {"checksum": "0123456789abcdef"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_value_changed_by_hand_is_refused(change: Item) -> None:
    with pytest.raises(JobConflict, match="do not belong together") as refused:
        from_item(stored() | change)

    assert "csv2kafka reset" in refused.value.hint


def test_a_log_position_taken_out_by_hand_is_refused() -> None:
    log = {"cluster_id", "topic", "topic_id", "partition", "kafka_next_offset", "producer_ids"}
    left = {name: value for name, value in stored().items() if name not in log and not name.startswith("last_own")}

    with pytest.raises(JobConflict, match="do not belong together"):
        from_item(left)


def test_half_a_place_to_begin_is_refused() -> None:
    with pytest.raises(JobConflict, match="restart_object_byte is missing"):
        from_item({name: value for name, value in stored().items() if name != "restart_object_byte"})


@pytest.mark.parametrize("reasons", ["no JSON", "1", "[1]", '[["a"]]', '[["a", "b"]]'])
def test_reasons_that_are_none_are_refused(reasons: str) -> None:
    with pytest.raises(JobConflict, match="not a list of reasons"):
        from_item(stored() | {"bad_rows_reasons": reasons})


def test_without_a_place_to_begin_nothing_is_written_of_it() -> None:
    """So that the items of plain files are those of earlier versions, checksum included."""
    plain = replace(SAVED, restart=None, quarantine=None, record_shape="json;delimiter=,")
    item = to_item(plain, plain.timestamp)
    assert not [name for name in item if name.startswith(("restart", "bad_rows"))]
    assert item["checksum"] == "3471184e72d4a8fb"
    assert from_item(item) == plain


def test_other_programs_need_no_checksum() -> None:
    assert "checksum" not in to_item(Checkpoint("job", 5, 5), "now")
    without = {name: value for name, value in stored().items() if name != "checksum"}
    assert from_item(without) == SAVED
