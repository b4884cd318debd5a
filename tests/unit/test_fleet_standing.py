"""Where a fleet stands, and forgetting it, from the checkpoint store alone; the same over both stores."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner, Result

from csv2kafka import status
from csv2kafka.checkpoints import CheckpointStore, open_store
from csv2kafka.cli import app
from csv2kafka.errors import JobConflict, JobHeld
from csv2kafka.fleet import manifest as manifests
from csv2kafka.fleet import standing
from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.model import Checkpoint, JobStatus, Quarantine, SourceIdentity
from csv2kafka.settings import StoreSettings
from tests.support.checkpoints import TABLE, DynamoTable
from tests.support.environment import clear_options

NAME = "nightly"
SIZE = 1_000


def fleet_of(count: int) -> Manifest:
    entries = (Entry(n, SourceIdentity(f"s3://bucket/in/{n}.csv", SIZE, "etag"), n % 4) for n in range(count))
    return Manifest(NAME, "s3://bucket/in/", "orders", "round-robin", "2026-01-16T00:00:00+00:00", tuple(entries))


FLEET = fleet_of(5)
# Jobs of other fleets, and of none.
OTHERS = ("nightly/00001/00001", "nightly.00002", "2/nightly/00003", "nightly/00004x", "nightly/late", "nightly")


@pytest.fixture(params=["sqlite", "dynamodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreSettings]:
    clear_options(monkeypatch)
    if request.param == "sqlite":
        yield StoreSettings(checkpoint_url=f"sqlite:///{tmp_path / 'c.db'}")
        return
    with mock_aws():
        DynamoTable()
        yield StoreSettings(checkpoint_url=f"dynamodb://{TABLE}")


def store_at(place: StoreSettings) -> CheckpointStore:
    return open_store(place.checkpoint_url, "-")


def frozen(place: StoreSettings, manifest: Manifest = FLEET) -> None:
    assert store_at(place).keep(NAME, manifests.to_bytes(manifest))


def saved(place: StoreSettings, index: int, rows: int, **changes: Any) -> CheckpointStore:
    """A store that holds the entry's job, which is at row `rows` of ten bytes each."""
    job_id = manifests.job_id(NAME, index)
    source = FLEET.entries[index].source if index < 5 else fleet_of(index + 1).entries[index].source
    store = store_at(place)
    store.acquire(job_id)
    store.save(replace(Checkpoint(job_id, rows, rows, byte_offset=10 * rows, source=source), **changes))
    return store


def under_way(place: StoreSettings) -> CheckpointStore:
    """One complete, one running (its store is returned), one failed, one stopped, one that waits."""
    frozen(place)
    saved(place, 0, 100, status=JobStatus.COMPLETED).release()
    holder = saved(place, 1, 50, rows_per_s=5)
    saved(place, 2, 20, status=JobStatus.FAILED, last_error="row 21 has 3 fields").release()
    saved(place, 3, 30, quarantine=Quarantine("orders.bad", 3), last_error="no broker answers").release()
    return holder


@contextmanager
def kept_alive(holder: CheckpointStore) -> Iterator[None]:
    """The holder renews its lease all the time, as a run does once a second."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(0.01):
            holder.renew()

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        try:
            yield
        finally:
            is_over.set()
            renewing.result()


def call(place: StoreSettings, *arguments: str) -> Result:
    return CliRunner().invoke(app, (*arguments, "--checkpoint", str(place.checkpoint_url)), prog_name="csv2kafka")


class TestStatus:
    def test_figures_add_up(self, place: StoreSettings) -> None:
        holder = under_way(place)
        found = standing.standing(place, NAME)
        assert found.counts == {"complete": 1, "running": 1, "failed": 1, "stopped": 1, "waiting": 1}
        assert (found.rows, found.bad_rows, found.bytes) == (200, 3, 2_000)
        assert (found.rows_per_s, found.eta_s) == (5, 60.0)  # 3,000 bytes of 10 a row
        assert [file.state for file in found.files] == ["complete", "running", "failed", "stopped", "waiting"]
        holder.release()

    def test_as_text(self, place: StoreSettings) -> None:
        holder = under_way(place)
        result = call(place, "status", "--fleet", NAME)
        assert result.exit_code == 0, result.output
        assert [line.rstrip() for line in result.stdout.splitlines()] == [
            "  fleet       nightly",
            "  source      s3://bucket/in/",
            "  topic       orders, 4 partitions",
            "  frozen      2026-01-16T00:00:00+00:00",
            "  files       5: 1 complete, 1 failed, 1 running, 1 stopped, 1 waiting",
            "  rows        200",
            "  bad rows    3",
            "  bytes       2.00 kB of 5.00 kB (40.0%)",
            "  speed       5 rows/s",
            "  ETA         1:00",
            "",
            "JOB            STATE    ROWS  DONE  SOURCE",
            "nightly/00001  running  50    50%   s3://bucket/in/1.csv",
            f"  held by {standing.standing(place, NAME).files[1].job.held_by}",  # type: ignore[union-attr]
            "nightly/00002  failed   20    20%   s3://bucket/in/2.csv",
            "  row 21 has 3 fields",
            "nightly/00003  stopped  30    30%   s3://bucket/in/3.csv",
            "  no broker answers",
        ]
        holder.release()

    def test_as_json(self, place: StoreSettings) -> None:
        holder = under_way(place)
        fields = json.loads(call(place, "status", "--fleet", NAME, "--json").stdout)
        names = ("fleet", "topic", "placement", "rows", "bad_rows", "bytes", "size_bytes", "rows_per_s", "eta_s")
        assert [fields[name] for name in names] == [NAME, "orders", "round-robin", 200, 3, 2_000, 5_000, 5, 60.0]
        assert fields["counts"]["waiting"] == 1
        files = fields["files"]
        assert [file["index"] for file in files] == [0, 1, 2, 3, 4]
        assert (files[1]["rows_per_s"], files[1]["bytes"], files[1]["held_by"][:8]) == (5, 500, "process ")
        assert files[2]["last_error"] == "row 21 has 3 fields"
        waiting = {
            "index": 4,
            "job_id": "nightly/00004",
            "source": "s3://bucket/in/4.csv",
            "part": None,
            "partition": 0,
        }
        waiting |= {"size_bytes": SIZE, "bytes": 0, "state": "waiting", "rows": 0, "bad_rows": 0, "held_by": None}
        assert files[4] == waiting | dict.fromkeys(("rows_per_s", "eta_s", "checkpoint_age_s", "last_error"))
        holder.release()

    def test_nothing_has_begun(self, place: StoreSettings) -> None:
        frozen(place)
        found = standing.standing(place, NAME)
        assert (found.counts, found.rows, found.bytes, found.rows_per_s, found.eta_s) == (
            {"waiting": 5},
            0,
            0,
            None,
            None,
        )
        lines = standing.as_text(found).splitlines()
        assert lines[-1] == "  bytes       0 B of 5.00 kB (0.0%)"  # no table, no speed

    def test_empty_files_are_all_there_is(self, place: StoreSettings) -> None:
        empty = replace(FLEET.entries[0], source=replace(FLEET.entries[0].source, size_bytes=0))
        frozen(place, replace(FLEET, entries=(empty,)))
        assert "bytes       0 B of 0 B (100.0%)" in standing.as_text(standing.standing(place, NAME))

    def test_of_many_the_first_are_shown(self, place: StoreSettings) -> None:
        frozen(place, fleet_of(25))
        for index in range(23):
            saved(place, index, 1).release()
        lines = standing.as_text(standing.standing(place, NAME)).splitlines()
        assert lines[-2].startswith("nightly/00019  stopped ")
        assert lines[-1] == "and 3 more: --json lists all"

    def test_another_fleets_jobs_are_not_counted(self, place: StoreSettings) -> None:
        frozen(place)
        for job_id in OTHERS:
            store = store_at(place)
            store.acquire(job_id)
            store.save(Checkpoint(job_id, 7, 7))
            store.release()
        assert standing.standing(place, NAME).counts == {"waiting": 5}

    def test_one_job_of_it_is_a_job_like_any_other(self, place: StoreSettings) -> None:
        under_way(place).release()
        result = call(place, "status", "nightly/00002")
        assert result.exit_code == 0
        assert "  state       failed\n" in result.stdout

    def test_the_list_shows_jobs_alone(self, place: StoreSettings) -> None:
        frozen(place)
        assert call(place, "list").stdout == "no jobs in this checkpoint store\n"
        saved(place, 0, 1).release()
        jobs = json.loads(call(place, "list", "--json").stdout)["jobs"]
        assert [job["job_id"] for job in jobs] == ["nightly/00000"]

    @pytest.mark.parametrize("command", ["status", "reset"])
    def test_no_such_fleet(self, place: StoreSettings, command: str) -> None:
        result = call(place, command, "--fleet", "weekly")
        assert result.exit_code == 78
        assert "error: there is no fleet weekly\nhint: See its name in its receipt" in result.stderr

    @pytest.mark.parametrize("command", ["status", "reset"])
    def test_a_job_or_a_fleet(self, place: StoreSettings, command: str) -> None:
        result = call(place, command, "nightly/00000", "--fleet", NAME)
        assert (result.exit_code, result.stderr) == (
            2,
            "error: JOB and --fleet contradict each other\nhint: keep one of them\n",
        )


class TestReset:
    def test_all_of_it_is_forgotten(self, place: StoreSettings) -> None:
        under_way(place).release()
        for job_id in OTHERS:
            other = store_at(place)
            other.acquire(job_id)
            other.save(Checkpoint(job_id, 7, 7))
            other.release()
        result = call(place, "reset", "--fleet", NAME)
        assert (result.exit_code, result.stdout) == (
            0,
            "fleet nightly and 4 jobs of it are forgotten: its next run begins anew "
            "(what they sent stays in the topic)\n",
        )
        assert store_at(place).kept(NAME) is None
        states = {one.job_id: one.state for one in status.standings(place)}
        assert {states.pop(job_id) for job_id in OTHERS} == {"stopped"}
        assert states == {manifests.job_id(NAME, index): "reset" for index in range(4)}
        frozen(place)
        assert standing.standing(place, NAME).rows == 0
        assert "and 0 jobs of it" in standing.reset(place, NAME)

    def test_nothing_is_forgotten_while_a_job_is_held(
        self, place: StoreSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        holder = under_way(place)
        monkeypatch.setattr("csv2kafka.checkpoints.dynamodb._POLL_S", 0.05)
        with kept_alive(holder), pytest.raises(JobHeld, match="job nightly/00001 is held by process "):
            standing.reset(place, NAME)
        assert store_at(place).kept(NAME) is not None
        assert standing.standing(place, NAME).rows == 200
        holder.release()

    def test_a_manifest_of_nonsense_can_be_forgotten(self, place: StoreSettings) -> None:
        store_at(place).keep(NAME, b"nonsense")
        saved(place, 1, 50).release()
        with pytest.raises(JobConflict, match=r"makes no sense.*") as refused:
            standing.standing(place, NAME)
        assert "csv2kafka reset --fleet NAME" in refused.value.hint
        assert "1 job of it" in standing.reset(place, NAME)
        assert store_at(place).kept(NAME) is None
