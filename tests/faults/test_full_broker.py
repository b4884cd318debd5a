"""A broker whose disk fills up under a load, which ends it: with room and a restart the load ends exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad
from tests.support.processes import Children
from tests.support.small_disk import SmallDisk
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

TRY_AGAIN = 75
IMPATIENT = ("-X", "delivery.timeout.ms=5000", "-X", "request.timeout.ms=5000")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk", size="64m")
    yield small
    small.close()


@pytest.fixture
def small_broker(disk: SmallDisk) -> Iterator[Broker]:
    with Broker(data_dir=disk.seen_from_here) as running:
        yield running


@pytest.fixture
def load(small_broker: Broker, children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(
        children, small_broker.bootstrap, create_topic(small_broker.bootstrap, config=SMALL_BATCHES), tmp_path
    )


def test_room_is_made_while_the_loader_waits(load: CliLoad, disk: SmallDisk, small_broker: Broker) -> None:
    with load.paused_at("batch_acked", 5):
        disk.fill()
    until(lambda: not small_broker.is_running, "the broker gives up")
    assert "No space left on device" in small_broker.log_path.read_text()
    disk.make_room()
    small_broker.restart()
    ended = load.wait()
    assert ended.returncode == 0, ended
    load.assert_exact()


def test_room_is_made_after_the_loader_gave_up(load: CliLoad, disk: SmallDisk, small_broker: Broker) -> None:
    with load.paused_at("batch_acked", 5, *IMPATIENT):
        disk.fill()
    ended = load.wait()
    assert ended.returncode == TRY_AGAIN, ended
    assert f"sending to {load.topic}-0: no success within 5 s" in str(ended.receipt["error"])
    assert "brokers are up" in str(ended.receipt["hint"])
    disk.make_room()
    small_broker.restart()
    assert 0 < load.assert_prefix() < ROWS
    load.assert_goes_on()
