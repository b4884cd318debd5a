"""A fleet's files loaded without anybody who hands them out: what an array job's child refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.errors import Retryable
from csv2kafka.fleet.freezing import refuse_too_early
from csv2kafka.model import Checkpoint, JobStatus
from tests.unit.test_fleet_metrics import manifest


def test_in_one_partition_each_waits_for_the_one_before_it(tmp_path: Path) -> None:
    store, fleet = SqliteStore(tmp_path / "checkpoints.db"), replace(manifest(2), placement="single")
    first, second = fleet.entries
    refuse_too_early(store, fleet, first)
    with pytest.raises(Retryable, match="orders/00000, which comes before this file in its partition, is not complete"):
        refuse_too_early(store, fleet, second)

    store.acquire("orders/00000")
    store.save(Checkpoint("orders/00000", 1, 5))
    with pytest.raises(Retryable):
        refuse_too_early(store, fleet, second)
    store.save(Checkpoint("orders/00000", 2, 9, status=JobStatus.COMPLETED))
    store.release()
    refuse_too_early(store, fleet, second)


def test_elsewhere_nobody_waits(tmp_path: Path) -> None:
    refuse_too_early(SqliteStore(tmp_path / "checkpoints.db"), manifest(2), manifest(2).entries[1])
