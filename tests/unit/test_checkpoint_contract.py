"""What every checkpoint store promises, asked of each of them: lease, checkpoint, fencing, forgetting.

What one store alone can do or suffer is in test_checkpoint_sqlite.py and test_checkpoint_dynamodb.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from moto import mock_aws

from csv2kafka.checkpoints import CheckpointStore
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.errors import Fenced, JobConflict, JobHeld
from csv2kafka.model import (
    Checkpoint,
    JobStatus,
    LanePosition,
    LogPosition,
    OwnMark,
    Position,
    Restart,
    SourceIdentity,
)
from tests.support.checkpoints import DynamoTable, sqlite_items, write_sqlite_item

JOB = "nightly/orders.csv → orders"

FULL = Checkpoint(
    job_id=JOB,
    last_line=5_000_000_000,
    total_sent=4_999_999_999,
    byte_offset=330_000_000_000,
    source=SourceIdentity("s3://bucket/orders.csv", 660_000_000_000, '"9b2cf535f27731c9-42"', "3sL4kqtJlcpXroDTDmJ"),
    record_shape='{"format":"json"}',
    log=LogPosition(
        cluster_id="MkU3OEVBNTcwNTJENDM2Qg",
        lanes=(
            LanePosition(
                topic="orders",
                topic_id="7fQ1lJ8kR0aM2l5oWb3v9A",
                partition=3,
                next_offset=7_000_000_123,
                first_offset=2_000_000_000,
                last_own=OwnMark(producer_id=4001, producer_epoch=7, last_sequence=2_147_483_647),
            ),
        ),
        producer_ids=(17, 4001),
    ),
    restart=Restart(329_999_000_000, 80_000_000_000),
)


class Backend(Protocol):
    """One kind of store, with a way to look and reach behind it."""

    def store(self, *, while_waiting: Callable[[], None] = ...) -> CheckpointStore: ...

    def depose(self) -> None: ...

    def item(self, job_id: str) -> dict[str, Any]: ...

    def put(self, item: dict[str, Any]) -> None: ...


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints.db"

    def store(self, *, while_waiting: Callable[[], None] = lambda: None) -> CheckpointStore:
        return SqliteStore(self.path)

    def depose(self) -> None:
        """The holder's lock file vanishes: the only way to take a lock from a process that lives."""
        for lock in self.path.parent.glob("*.lock"):
            lock.unlink()

    def item(self, job_id: str) -> dict[str, Any]:
        return sqlite_items(self.path).get(job_id, {})

    def put(self, item: dict[str, Any]) -> None:
        SqliteStore(self.path).load("the tables are there now")
        write_sqlite_item(self.path, item)


class DynamoDB:
    def __init__(self, table: DynamoTable) -> None:
        self._table = table
        self.item, self.put = table.item, table.put

    def store(self, *, while_waiting: Callable[[], None] = lambda: None) -> CheckpointStore:
        return self._table.store(JOB, while_waiting=while_waiting)

    def depose(self) -> None:
        """Nothing to do: a taker waits for the time to live, in which the holder does not write."""


@pytest.fixture(scope="module", params=["sqlite", "moto", "DynamoDBLocal"])
def table(request: pytest.FixtureRequest) -> Iterator[DynamoTable | None]:
    """A table in the mock or in Amazon's own server; None where the store is SQLite."""
    if request.param == "sqlite":
        yield None
    elif request.param == "moto":
        with mock_aws():
            yield DynamoTable()
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("dynamodb_local"))
            yield DynamoTable()


@pytest.fixture
def backend(tmp_path: Path, table: DynamoTable | None) -> Backend:
    if table is None:
        return Sqlite(tmp_path)
    table.clear()
    return DynamoDB(table)


def without_timestamp(checkpoint: Checkpoint | None) -> Checkpoint | None:
    return checkpoint and replace(checkpoint, timestamp="")


def test_a_job_never_seen_has_no_checkpoint(backend: Backend) -> None:
    store = backend.store()

    assert store.load(JOB) is None
    assert store.acquire(JOB) is None
    assert store.load(JOB) is None
    store.release()
    assert backend.store().acquire(JOB) is None


LANE = FULL.log.lanes[0]  # type: ignore[union-attr]


def with_lanes(*lanes: LanePosition) -> Checkpoint:
    return replace(FULL, log=replace(FULL.log, lanes=lanes))  # type: ignore[type-var]


@pytest.mark.parametrize(
    "checkpoint",
    [
        FULL,
        replace(FULL, source=replace(FULL.source, version_id=None)),  # type: ignore[type-var]
        with_lanes(replace(LANE, last_own=OwnMark(4001, 0, -1))),
        with_lanes(replace(LANE, last_own=None)),
        with_lanes(LANE, replace(LANE, partition=4, ahead_rows=17), replace(LANE, topic="orders.bad", last_own=None)),
        with_lanes(replace(LANE, ahead_rows=3), replace(LANE, partition=5)),
        Checkpoint(JOB),
        *(replace(FULL, status=status) for status in JobStatus),
    ],
)
def test_what_is_saved_is_loaded(backend: Backend, checkpoint: Checkpoint) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(checkpoint)
    store.release()

    loaded = backend.store().acquire(JOB)

    assert without_timestamp(loaded) == checkpoint
    assert without_timestamp(backend.store().load(JOB)) == checkpoint
    assert loaded is not None
    assert loaded.timestamp.endswith("+00:00")


def test_saving_less_leaves_nothing_of_what_was_there(backend: Backend) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(FULL)
    store.save(Checkpoint(JOB, 1, 1))

    assert without_timestamp(store.load(JOB)) == Checkpoint(JOB, 1, 1)


def test_renewing_changes_no_checkpoint(backend: Backend) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(FULL)
    saved = store.load(JOB)
    store.renew()

    assert store.load(JOB) == saved


def test_the_second_of_two_is_told_who_holds_the_job(backend: Backend) -> None:
    holder = backend.store()
    holder.acquire(JOB)
    holder.save(FULL)

    with pytest.raises(JobHeld) as held:
        backend.store(while_waiting=holder.renew).acquire(JOB)

    assert JOB in held.value.message
    assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in held.value.message
    assert held.value.hint
    holder.save(replace(FULL, last_line=FULL.last_line + 1))


def test_another_job_is_free(backend: Backend) -> None:
    holder, other = backend.store(), backend.store()
    holder.acquire(JOB)

    assert other.acquire("another job") is None
    other.save(Checkpoint("another job", 1, 1))
    holder.save(FULL)


def test_a_released_lease_is_free_at_once(backend: Backend) -> None:
    def no_waiting() -> None:
        raise AssertionError("waited for a lease that is free")

    first = backend.store()
    first.acquire(JOB)
    first.save(FULL)
    first.release()

    assert without_timestamp(backend.store(while_waiting=no_waiting).acquire(JOB)) == FULL


def test_a_store_can_take_the_lease_again(backend: Backend) -> None:
    store = backend.store()
    for row in range(3):
        store.acquire(JOB)
        store.save(Checkpoint(JOB, row, row))
        store.release()

    assert without_timestamp(store.load(JOB)) == Checkpoint(JOB, 2, 2)


def test_the_epoch_rises_with_every_taking(backend: Backend) -> None:
    epochs = []
    for _ in range(3):
        store = backend.store()
        store.acquire(JOB)
        epochs.append(backend.item(JOB)["lease_epoch"])
        store.release()

    assert epochs == [1, 2, 3]


def test_one_who_lost_the_lease_cannot_write(backend: Backend) -> None:
    zombie = backend.store()
    zombie.acquire(JOB)
    zombie.save(FULL)
    backend.depose()
    heir = backend.store()
    assert without_timestamp(heir.acquire(JOB)) == FULL
    heir.save(replace(FULL, last_line=FULL.last_line + 1))
    before = backend.item(JOB)

    for _ in range(2):
        with pytest.raises(Fenced) as fenced:
            zombie.save(replace(FULL, last_line=FULL.last_line + 99))
        assert f"process {os.getpid()}" in fenced.value.message
        assert fenced.value.hint
    with pytest.raises(Fenced):
        zombie.renew()
    zombie.release()

    assert backend.item(JOB) == before
    heir.save(replace(FULL, last_line=FULL.last_line + 2))


def test_one_whose_item_was_removed_cannot_write(backend: Backend) -> None:
    store = backend.store()
    store.acquire(JOB)
    backend.put({"job_id": JOB, "last_line": 1})

    with pytest.raises(Fenced, match="nobody holds it"):
        store.save(FULL)

    store.release()
    assert backend.item(JOB) == {"job_id": JOB, "last_line": 1}


@pytest.mark.parametrize("sent", [None, 490])
def test_the_plans_fields_alone_are_a_checkpoint(backend: Backend, sent: int | None) -> None:
    item = {"job_id": JOB, "last_line": 500, "timestamp": "2026-01-16T00:00:00Z", "status": "FAILED"}
    backend.put(item | ({} if sent is None else {"total_sent": sent}))

    checkpoint = backend.store().acquire(JOB)

    assert checkpoint == Checkpoint(
        JOB, 500, 500 if sent is None else sent, JobStatus.FAILED, timestamp="2026-01-16T00:00:00Z"
    )
    assert checkpoint.position is None


def test_the_position_is_row_and_byte(backend: Backend) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(FULL)
    loaded = store.load(JOB)

    assert loaded is not None
    assert loaded.position == Position(FULL.last_line, FULL.byte_offset or 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("last_line", -1),
        ("last_line", "5oo"),
        ("last_line", None),
        ("total_sent", "many"),
        ("byte_offset", -2),
        ("status", "DONE"),
        ("status", ""),
        ("source_size_bytes", None),
        ("partition", None),
        ("kafka_next_offset", "x"),
        ("topic_id", None),
        ("last_own_sequence", -2),
        ("last_own_producer_id", None),
        ("producer_ids", "17,,4001"),
        ("producer_ids", "-1"),
        ("first_offset", -1),
        ("more_lanes", "["),
        ("more_lanes", "[[1]]"),
        ("ahead_rows", -1),
        ("lease_epoch", "first"),
        ("ckpt_seq", -1),
    ],
)
def test_an_item_that_makes_no_sense_is_refused(backend: Backend, name: str, value: object) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(FULL)
    store.release()
    damaged = {**backend.item(JOB), name: value}
    backend.put({field: left for field, left in damaged.items() if left is not None})
    before = backend.item(JOB)
    expected = f"{name} is missing" if value is None else f"{name} is "

    with pytest.raises(JobConflict) as refused:
        store.acquire(JOB)

    assert expected in refused.value.message
    assert value is None or str(value) in refused.value.message
    assert f"csv2kafka reset {JOB}" in refused.value.hint
    assert backend.item(JOB) == before
    if name in before and not name.startswith(("lease", "ckpt")):
        with pytest.raises(JobConflict):
            store.load(JOB)

    store.forget(JOB)
    assert without_timestamp(store.load(JOB)) == Checkpoint(JOB, status=JobStatus.RESET)


def test_a_job_forgotten_leaves_only_that_it_was(backend: Backend) -> None:
    store = backend.store()
    store.acquire(JOB)
    store.save(FULL)
    store.release()

    store.forget(JOB)

    left = {name: value for name, value in backend.item(JOB).items() if not name.startswith(("lease", "ckpt"))}
    assert left.pop("timestamp")
    assert left == {"job_id": JOB, "status": "RESET", "last_line": 0, "total_sent": 0}
    assert "lease_owner" not in backend.item(JOB)
    assert without_timestamp(store.acquire(JOB)) == Checkpoint(JOB, status=JobStatus.RESET)


def test_a_job_never_seen_can_be_forgotten(backend: Backend) -> None:
    backend.store().forget(JOB)

    assert without_timestamp(backend.store().load(JOB)) == Checkpoint(JOB, status=JobStatus.RESET)


def test_a_job_that_is_held_is_not_forgotten(backend: Backend) -> None:
    holder = backend.store()
    holder.acquire(JOB)
    holder.save(FULL)

    with pytest.raises(JobHeld):
        backend.store(while_waiting=holder.renew).forget(JOB)

    assert without_timestamp(holder.load(JOB)) == FULL
    holder.save(FULL)


def test_calls_may_come_from_any_thread(backend: Backend) -> None:
    store = backend.store()
    calls: list[Callable[[], object]] = [
        partial(store.acquire, JOB),
        partial(store.save, FULL),
        store.renew,
        store.release,
        partial(store.forget, JOB),
    ]
    for call in calls:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(call).result()

    loaded = store.load(JOB)
    assert loaded is not None
    assert loaded.status is JobStatus.RESET


def test_misuse_is_a_bug_not_an_operating_error(backend: Backend) -> None:
    store = backend.store()
    store.release()
    save, acquire = partial(store.save, FULL), partial(store.acquire, JOB)
    misuses: list[Callable[[], object]] = [save, store.renew]
    for misuse in misuses:
        with pytest.raises(AssertionError):
            misuse()
    store.acquire("another job")
    misuses = [save, acquire]
    for misuse in misuses:
        with pytest.raises(AssertionError):
            misuse()
