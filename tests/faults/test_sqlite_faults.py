"""The checkpoint file's disk full, or the file itself damaged: a clear stop, and the exact topic once it is mended."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.checkpoints import sqlite_items
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad
from tests.support.processes import Children
from tests.support.small_disk import SmallDisk

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TRY_AGAIN, CONFIGURATION = 75, 78
PAGE_BYTES = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk")
    yield small
    small.close()


@pytest.fixture
def on_disk(broker: Broker, make_topic: Callable[..., str], disk: SmallDisk, tmp_path: Path) -> CliLoad:
    """A load whose checkpoints are on the small disk; its file is not."""
    checkpoint = f"sqlite:///{tmp_path / 'disk' / 'checkpoints.db'}"
    return CliLoad(disk, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, checkpoint=checkpoint)


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path)


def item_on(disk: SmallDisk, folder: Path) -> dict[str, Any]:
    """The job's row, read from a copy."""
    copies = folder / "copies"
    shutil.copytree(disk.seen_from_here, copies, ignore=shutil.ignore_patterns("filler"))
    try:
        return sqlite_items(copies / "checkpoints.db")["job"]
    finally:
        shutil.rmtree(copies)


@pytest.mark.slow
def test_a_disk_that_is_full_mid_way(on_disk: CliLoad, disk: SmallDisk, tmp_path: Path) -> None:
    """Slow because room is waited for, here for 5 s."""
    with on_disk.paused_at("batch_acked", 5, "-X", "delivery.timeout.ms=5000", "-X", "request.timeout.ms=5000"):
        before = item_on(disk, tmp_path)
        disk.fill()
    on_disk.wait().assert_failed(TRY_AGAIN, "checkpoints.db cannot be written now", "disk has room", "is intact")
    on_disk.assert_prefix(at_least=1)
    assert item_on(disk, tmp_path) == before
    disk.make_room()
    on_disk.assert_goes_on()


def test_a_disk_that_gets_room_in_time(on_disk: CliLoad, disk: SmallDisk) -> None:
    with on_disk.paused_at("batch_acked", 5) as process:
        disk.fill()
    assert process.stderr is not None
    while "cannot be written now" not in (line := process.stderr.readline()):
        assert line, on_disk.wait()
    disk.make_room()
    assert on_disk.wait().returncode == 0
    on_disk.assert_exact()


def test_a_disk_that_is_full_from_the_start(on_disk: CliLoad, disk: SmallDisk) -> None:
    disk.fill()
    on_disk.run().assert_failed(TRY_AGAIN, "checkpoints.db", "disk has room")
    assert on_disk.assert_prefix() == 0
    disk.make_room()
    on_disk.assert_goes_on()


def _noise(count: int) -> bytes:
    return random.Random(0).randbytes(count)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "noise": (lambda sound: _noise(len(sound)), "is not a sound checkpoint file"),
    "cut short": (lambda sound: sound[: PAGE_BYTES + 100], "is not a sound checkpoint file"),
    "a page of noise": (lambda sound: sound[:PAGE_BYTES] + _noise(len(sound) - PAGE_BYTES), "is not a sound"),
    "empty": (lambda _: b"", "its checkpoint is gone"),
    "a digit": (lambda sound: sound.replace(b"mtime-1", b"mtime-2"), "was changed by something else than csv2kafka"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_file(load: CliLoad, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoints.db"
    load.crash_at("batch_acked", 7)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what the dead process left beside the file goes into it
    sound = path.read_bytes()
    change, complaint = DAMAGES[damage]
    damaged = change(sound)
    assert damaged != sound
    path.write_bytes(damaged)
    load.run().assert_failed(CONFIGURATION, complaint)
    assert 0 < load.assert_prefix(at_least=1) < ROWS
    path.write_bytes(sound)
    load.assert_goes_on()


def test_a_checkpoint_file_that_is_gone(load: CliLoad, tmp_path: Path) -> None:
    """Kafka remembers the job: to begin again must be said."""
    load.crash_at("batch_acked", 7)
    sent = load.assert_prefix(at_least=1)
    for left in tmp_path.glob("checkpoints.db*"):
        left.rename(tmp_path / f"aside-{left.name}")
    load.run().assert_failed(CONFIGURATION, "its checkpoint is gone", "csv2kafka reset job")
    assert load.assert_prefix() == sent
    for left in tmp_path.glob("checkpoints.db*"):
        left.unlink()
    for left in tmp_path.glob("aside-*"):
        left.rename(tmp_path / left.name.removeprefix("aside-"))
    load.assert_goes_on()
