"""What samples say of a run, in the order in which a run comes to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest

from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.errors import Fenced
from csv2kafka.kafka.client import Client, Partition
from csv2kafka.kafka.fence import ProducerEpoch
from csv2kafka.kafka.sender import Footing, Sender, TakeOverAgain
from csv2kafka.keeper import Keeper
from csv2kafka.model import Checkpoint, Quarantine, Sample
from csv2kafka.sources import Source, open_source
from csv2kafka.tracker import Progress

FOOTING = Footing(Partition("t", "id", 0), ProducerEpoch(5, 2), 0, 0, 0.0)
BEGUN = Checkpoint("job", last_line=10, byte_offset=20, quarantine=Quarantine("t.bad", 2, (("is bad", 2),)))


def sender(*latencies_s: float, retries: int = 0, foreign_records: int = 0, throttled_s: float = 0.0) -> Sender:
    class Throttled(Sender):
        @property
        def throttled_s(self) -> float:
            return throttled_s

    made = Throttled(cast(Client, None), FOOTING)  # which sends nothing here
    made.ack_latencies_s += latencies_s
    made.retries, made.foreign_records = retries, foreign_records
    return made


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "data.csv"
    path.write_bytes(b"x" * 100)
    return open_source(str(path))


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(SqliteStore(tmp_path / "checkpoints.db"), BEGUN, patience_s=1.0)


@pytest.fixture
def progress(source: Source) -> Progress:
    begun = Progress(0.0, 0.0, bytes_before=0, rows_before=0)
    begun.begin(BEGUN, source)
    return begun


def sample(progress: Progress, source: Source, keeper: Keeper, *senders: Sender, **changes: Any) -> Sample:
    return progress.sample(replace(BEGUN, **changes), source, keeper, senders, rows_total=None)


def test_each_latency_is_told_once_and_the_newest_is_remembered(
    progress: Progress, source: Source, keeper: Keeper
) -> None:
    working = sender(0.1, 0.2)
    assert sample(progress, source, keeper, working).ack_latencies_s == (0.1, 0.2)
    working.ack_latencies_s.append(0.3)
    assert sample(progress, source, keeper, working).ack_latencies_s == (0.3,)
    silent = sample(progress, source, keeper, working)
    assert (silent.ack_latencies_s, silent.ack_latency_s) == ((), 0.3)
    working.ack_latencies_s.append(0.4)
    progress.end_epoch((working,))
    assert sample(progress, source, keeper).ack_latencies_s == (0.4,)


def test_counts_of_an_epoch_go_on_in_the_next(progress: Progress, source: Source, keeper: Keeper) -> None:
    first = sender(retries=2, foreign_records=3, throttled_s=1.5)
    during = sample(progress, source, keeper, first)
    progress.end_epoch((first,))
    behind = sample(progress, source, keeper, sender(retries=1, foreign_records=1, throttled_s=0.5))
    assert (during.retries, during.foreign_records, during.throttled_s) == (2, 3, 1.5)
    assert (behind.retries, behind.foreign_records, behind.throttled_s) == (3, 4, 2.0)


def test_what_earlier_runs_did_is_told_apart(progress: Progress, source: Source, keeper: Keeper) -> None:
    bad = Quarantine("t.bad", 5, (("is bad", 2), ("is worse", 3)))
    told = sample(progress, source, keeper, last_line=30, byte_offset=60, quarantine=bad)
    assert (told.rows, told.bytes_done, told.bad_rows) == (30, 60, 5)
    assert (told.rows_before, told.bytes_before, told.bad_rows_before) == (10, 20, 2)
    assert told.bad_row_reasons == (("is bad", 2), ("is worse", 3))
    assert told.checkpoint_lag_rows == 20


def test_errors_survived(progress: Progress, source: Source, keeper: Keeper) -> None:
    for error in (TakeOverAgain("x"), Fenced("x"), TakeOverAgain("x")):
        progress.survived(error)
    keeper.failures = 4
    with patch.object(type(source), "failures", 5):
        told = dict(sample(progress, source, keeper).errors)
    assert told == {"kafka": 2, "lease": 1, "checkpoint": 4, "source": 5}
    assert progress.recoveries == 3
