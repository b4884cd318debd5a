"""What workers tell of their entries, added up: over attempts, earlier runs and parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from csv2kafka.fleet.overview import STATES, Overview
from csv2kafka.fleet.work import TOLD, Failure, Outcome
from csv2kafka.model import Checkpoint, JobStatus, Quarantine, Restart
from tests.unit.test_fleet_manifest import MANIFEST, PARTED
from tests.unit.test_fleet_report import receipt_of

FIRST, SECOND = MANIFEST.entries
SUMMED = ("rows", "rows_before", "bytes_done", "bytes_before", "bad_rows", "bad_rows_before")


def telling(index: int, **figures: Any) -> dict[str, Any]:
    return {"index": index, "worker": "tcp://a:1", "ack_latencies_s": []} | dict.fromkeys(TOLD, 0) | figures


def sums(overview: Overview) -> tuple[int, ...]:
    sample = overview.sample()
    return tuple(getattr(sample, name) for name in SUMMED)


def counts(overview: Overview) -> dict[str, int]:
    return {state: count for state, count in overview.counts().items() if count}


def begun(**changes: Any) -> Checkpoint:
    """Of an earlier run: 40 rows, 400 bytes, 4 bad rows."""
    found = Checkpoint("nightly/00000", 40, 36, byte_offset=400, quarantine=Quarantine("orders.bad", 4))
    return replace(found, **changes)


def test_at_first_all_wait() -> None:
    overview = Overview(MANIFEST, {})
    assert counts(overview) == {"waiting": 2}
    assert sums(overview) == (0,) * 6
    sample = overview.sample()
    assert (sample.bytes_total, sample.rows_per_s, sample.eta_s, sample.ack_latency_s) == (2_000, 0, None, None)


def test_what_workers_tell_adds_up() -> None:
    overview = Overview(MANIFEST, {})
    for entry in MANIFEST.entries:
        overview.handed_out(entry)
    overview.told(telling(0, rows=10, bytes_done=100, bad_rows=1, retries=1, ack_latencies_s=[0.1, 0.2]))
    overview.told(telling(1, rows=5, bytes_done=50, takeovers=2, ack_latencies_s=[0.3]))
    overview.told(telling(0, rows=20, bytes_done=200, bad_rows=2, retries=1, ack_latencies_s=[0.4]))
    sample = overview.sample()
    assert (sample.rows, sample.bytes_done, sample.bad_rows, sample.retries, sample.takeovers) == (25, 250, 2, 1, 2)
    assert sample.ack_latencies_s == (0.1, 0.2, 0.3, 0.4)
    assert (sample.rows_per_s > 0, sample.eta_s is not None) == (True, True)
    later = overview.sample()
    assert (later.ack_latencies_s, later.ack_latency_s) == ((), 0.4)  # each is counted once


def test_who_runs_what_and_how_far() -> None:
    overview = Overview(MANIFEST, {})
    overview.handed_out(SECOND)
    overview.told(telling(1, rows=5, bytes_done=250))
    assert counts(overview) == {"waiting": 1, "running": 1}
    assert (overview.items[1].worker, overview.items[1].attempts) == ("tcp://a:1", 1)
    details = overview.details("http://dashboard")
    assert details["counts"] == dict.fromkeys(STATES, 0) | {"waiting": 1, "running": 1}
    (running,) = details["running"]
    assert (running["worker"], running["progress_ratio"], running["rows"]) == ("tcp://a:1", 0.25, 5)
    assert details["dashboard"] == "http://dashboard"


def test_an_attempt_that_is_over_is_not_heard() -> None:
    overview = Overview(MANIFEST, {})
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=9, bytes_done=90))
    overview.put_off(FIRST, "no broker answers")
    overview.told(telling(0, rows=999, bytes_done=999))
    overview.told(telling(7, rows=999, bytes_done=999))  # of another manifest
    assert sums(overview)[0] == 9
    assert (overview.items[0].state, overview.items[0].error) == ("waiting", "no broker answers")


def test_a_second_attempt_counts_rows_once_and_as_this_runs() -> None:
    overview = Overview(MANIFEST, {0: begun()})
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=50, rows_before=40, bytes_done=500, bytes_before=400, bad_rows=5, bad_rows_before=4))
    overview.put_off(FIRST, "its worker died")
    assert sums(overview) == (50, 40, 500, 400, 5, 4)
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=60, rows_before=50, bytes_done=600, bytes_before=500, bad_rows=6, bad_rows_before=5))
    assert sums(overview) == (60, 40, 600, 400, 6, 4)
    assert (overview.items[0].attempts, overview.items[0].error) == (2, None)


def test_a_worker_that_dask_put_in_a_dead_ones_place_counts_rows_as_this_runs() -> None:
    overview = Overview(MANIFEST, {})
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=10, bytes_done=100))
    overview.told(telling(0, rows=12, bytes_done=120, rows_before=10, bytes_before=100))
    sample = overview.sample()
    assert (sample.rows, sample.rows_before, sample.bytes_before) == (12, 0, 0)


def test_a_first_attempt_that_said_nothing_changes_nothing() -> None:
    overview = Overview(MANIFEST, {0: begun()})
    overview.handed_out(FIRST)
    overview.put_off(FIRST, "its worker died")
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=60, rows_before=45, bytes_done=600, bytes_before=450))
    assert sums(overview)[:4] == (60, 40, 600, 400)


@pytest.mark.parametrize(
    ("checkpoint", "state", "rows", "done_bytes"),
    [
        (begun(), "waiting", 40, 400),
        (begun(restart=Restart(300, 70)), "waiting", 40, 70),  # of a compressed file, as its size is
        (begun(status=JobStatus.COMPLETED), "complete", 40, 1_000),
        (begun(status=JobStatus.FAILED), "waiting", 40, 400),
        (Checkpoint("nightly/00000", status=JobStatus.RESET), "waiting", 0, 0),
    ],
)
def test_what_earlier_runs_did_counts_as_before(checkpoint: Checkpoint, state: str, rows: int, done_bytes: int) -> None:
    overview = Overview(MANIFEST, {0: checkpoint})
    assert overview.items[0].state == state
    bad_rows = 4 if rows else 0
    assert sums(overview) == (rows, rows, done_bytes, done_bytes, bad_rows, bad_rows)
    assert overview.rows_of(FIRST) == rows


def test_of_a_part_its_own_rows_and_bytes_count() -> None:
    shape = '{"part":[17,400,1000]}'
    overview = Overview(PARTED, {1: Checkpoint("nightly/00001", 20, 3, byte_offset=520, record_shape=shape)})
    assert sums(overview)[:4] == (3, 3, 120, 120)
    assert overview.sample().bytes_total == 990


def test_how_entries_end() -> None:
    overview = Overview(MANIFEST, {})
    for entry in MANIFEST.entries:
        overview.handed_out(entry)
    overview.told(telling(0, rows=10, bytes_done=100))
    overview.ended(Outcome(0, "tcp://b:2", receipt_of(FIRST, rows=90)))
    overview.told(telling(1, rows=10, bytes_done=100))
    overview.ended(Outcome(1, "tcp://c:3", failure=Failure("bad_data", "row 11 has 3 fields", "mend it", 65)))
    assert counts(overview) == {"complete": 1, "failed": 1}
    assert sums(overview)[:4] == (100, 0, 1_100, 0)
    assert overview.sample().errors == (("bad_data", 1),)
    assert (overview.items[1].worker, overview.items[1].error) == ("tcp://c:3", "row 11 has 3 fields")
    details = overview.details("")
    assert (details["running"], details["failed"][0]["error"]) == ([], "row 11 has 3 fields")


def test_one_that_was_stopped_keeps_its_bytes() -> None:
    overview = Overview(MANIFEST, {})
    overview.handed_out(FIRST)
    overview.told(telling(0, rows=10, bytes_done=100))
    overview.ended(Outcome(0, "tcp://b:2", receipt_of(FIRST, rows=12, status="stopped")))
    assert counts(overview) == {"stopped": 1, "waiting": 1}
    assert sums(overview)[:3] == (12, 0, 100)


def test_one_that_is_held_back_says_why() -> None:
    overview = Overview(MANIFEST, {})
    overview.held_back(SECOND, "nightly/00000 is not loaded")
    assert counts(overview) == {"waiting": 1, "held back": 1}
    assert overview.items[1].error == "nightly/00000 is not loaded"
