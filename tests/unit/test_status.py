"""Where a job stands, told from its item in the checkpoint store alone; the same over both stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from csv2kafka import status
from csv2kafka.checkpoints import CheckpointStore, open_store
from csv2kafka.errors import JobConflict
from csv2kafka.model import Checkpoint, JobStatus, Quarantine, Restart
from csv2kafka.settings import StoreSettings
from tests.support.checkpoints import TABLE, DynamoTable
from tests.unit.test_checkpoint_item import SAVED

HALF = replace(
    SAVED,
    job_id="job",
    status=JobStatus.IN_PROGRESS,
    last_line=1_000,
    byte_offset=33_000,
    restart=None,
    quarantine=Quarantine("file:///bad", 7),
    rows_per_s=500,
)


@pytest.fixture(params=["sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreSettings]:
    if request.param == "sqlite":
        yield StoreSettings(checkpoint_url=f"sqlite:///{tmp_path / 'c.db'}")
        return
    with mock_aws():
        DynamoTable()
        yield StoreSettings(checkpoint_url=f"dynamodb://{TABLE}")


def saved(store: StoreSettings, checkpoint: Checkpoint) -> CheckpointStore:
    """A store that holds the job's lease and has saved this."""
    opened = open_store(store.checkpoint_url, checkpoint.job_id)
    opened.acquire(checkpoint.job_id)
    opened.save(checkpoint)
    return opened


def half_of(size_bytes: int = 66_000, **changes: Any) -> Checkpoint:
    assert HALF.source is not None
    return replace(HALF, source=replace(HALF.source, size_bytes=size_bytes), **changes)


def test_a_running_job(store: StoreSettings) -> None:
    holder = saved(store, half_of())
    (found,) = status.standings(store, "job")
    assert (found.state, found.rows, found.bad_rows, found.progress) == ("running", 1_000, 7, 0.5)
    assert (found.rows_per_s, found.eta_s) == (500, 2.0)
    assert found.held_by is not None
    assert found.held_by.startswith("process ")
    assert found.checkpoint_age_s is not None
    assert found.checkpoint_age_s < 60
    text = status.as_text(found)
    assert "rows        1,000 (50.0% of the file)" in text
    assert "ETA         0:02" in text
    holder.release()


def test_one_that_has_ended(store: StoreSettings) -> None:
    saved(store, half_of(last_error="no broker answers")).release()
    (found,) = status.standings(store, "job")
    assert (found.state, found.held_by, found.rows_per_s, found.eta_s) == ("stopped", None, None, None)
    assert "last error  no broker answers" in status.as_text(found)
    for number, (final, state) in enumerate(
        ((JobStatus.COMPLETED, "complete"), (JobStatus.FAILED, "failed"), (JobStatus.RESET, "reset"))
    ):
        saved(store, half_of(job_id=f"job {number}", status=final)).release()
        assert status.standings(store, f"job {number}")[0].state == state


def test_one_whose_holder_says_nothing(store: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = saved(store, half_of())
    later = datetime.now(UTC) + timedelta(seconds=60)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return later

    monkeypatch.setattr(status, "datetime", Later)
    (found,) = status.standings(store, "job")
    assert found.state == "silent"
    assert found.held_by is not None
    monkeypatch.setattr(status, "is_gone", lambda process: True)
    assert status.standings(store, "job")[0].state == "stopped"
    holder.release()


def test_a_compressed_file_is_measured_by_its_object(store: StoreSettings) -> None:
    saved(store, half_of(restart=Restart(30_000, 16_500))).release()
    assert status.standings(store, "job")[0].progress == 0.25


def test_all_jobs(store: StoreSettings) -> None:
    assert status.as_table(status.standings(store)) == "no jobs in this checkpoint store"
    for name in ("b", "a", "c"):
        saved(store, half_of(job_id=name)).release()
    found = status.standings(store)
    assert [one.job_id for one in found] == ["a", "b", "c"]
    lines = status.as_table(found).splitlines()
    assert lines[0].split() == ["JOB", "STATE", "ROWS", "DONE", "ETA", "CHECKPOINT", "TOPIC"]
    assert lines[1].split()[:4] == ["a", "stopped", "1,000", "50%"]


def test_no_such_job(store: StoreSettings) -> None:
    with pytest.raises(JobConflict, match="there is no job x") as refused:
        status.standings(store, "x")
    assert "csv2kafka list" in refused.value.hint


def test_a_job_that_has_only_taken_its_lease(store: StoreSettings) -> None:
    opened = open_store(store.checkpoint_url, "job")
    opened.acquire("job")
    opened.release()
    (found,) = status.standings(store, "job")
    assert (found.state, found.rows, found.progress, found.topic) == ("new", 0, None, None)


def test_another_programs_checkpoint(store: StoreSettings) -> None:
    saved(store, Checkpoint("job", last_line=5, total_sent=5)).release()
    (found,) = status.standings(store, "job")
    assert (found.state, found.rows, found.progress, found.source) == ("stopped", 5, None, None)
