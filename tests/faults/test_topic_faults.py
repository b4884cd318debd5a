"""A topic that changes under the loader, mid-run and between runs: it stops with a reason, or ends exactly."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.fence import ProducerEpoch, new_epoch, transactional_id
from csv2kafka.kafka_settings import KafkaSettings
from tests.support.admin import topics
from tests.support.cli_load import ISOLATIONS, ROWS, SMALL_BATCHES, CliLoad, Ended
from tests.support.oracle import read_topic
from tests.support.processes import Children
from tests.support.topic_changes import TopicChanges

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

CONFIGURATION, STOPPED = 78, 143
MARKERS = 1  # a run's first offset: row 1 lies behind it


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path)


@pytest.fixture(scope="module")
def change(broker: Broker) -> TopicChanges:
    return TopicChanges(broker.bootstrap)


def refused(ended: Ended, *words: str) -> str:
    """The error of a run that stopped for a reason of the topic's; every one of `words` is in it or in its hint."""
    assert ended.returncode == CONFIGURATION, ended
    told = f"{ended.receipt['error']} {ended.receipt['hint']}"
    for word in words:
        assert word in told
    return told


def test_a_limit_lowered_mid_run_stops_without_a_gap(load: CliLoad, change: TopicChanges) -> None:
    with load.paused_at("batch_acked", 5):
        change.configure(load.topic, "max.message.bytes", "5000")
    refused(load.wait(), "max.message.bytes", "too large", "Run the same command again")
    assert load.assert_prefix(at_least=1) < ROWS
    load.assert_goes_on()


@pytest.mark.slow
def test_a_topic_deleted_mid_run(load: CliLoad, change: TopicChanges) -> None:
    """Slow because the loader gives a broker that does not know the topic yet ten seconds."""
    with load.paused_at("batch_acked", 5):
        change.delete(load.topic)
    refused(load.wait(), "was deleted while this job was writing", "csv2kafka reset")
    assert load.topic not in topics(load.bootstrap)


def test_a_topic_made_again_mid_run(load: CliLoad, change: TopicChanges) -> None:
    with load.paused_at("batch_acked", 5):
        change.recreate(load.topic)
    refused(load.wait(), load.topic, "csv2kafka reset")
    assert len(read_topic(load.bootstrap, load.topic)) < ROWS / 10


def test_a_topic_made_again_and_filled_by_others_mid_run(load: CliLoad, change: TopicChanges) -> None:
    """Its offsets have passed the job's, so no answer of the broker looks wrong."""
    with load.paused_at("batch_acked", 5):
        change.recreate(load.topic)
        change.write_foreign(load.topic, [b"foreign"] * 10_000)
    refused(load.wait(), load.topic, "csv2kafka reset")
    refused(load.run(), "topic id", "csv2kafka reset")


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled by others"])
def test_a_topic_made_again_between_runs(load: CliLoad, change: TopicChanges, filled: bool) -> None:
    load.crash_at("batch_acked", 5)
    change.recreate(load.topic)
    foreign = [b"foreign"] * 10_000 if filled else []
    change.write_foreign(load.topic, foreign)
    refused(load.run(), "topic id", "csv2kafka reset")
    assert read_topic(load.bootstrap, load.topic) == foreign


@pytest.mark.slow
def test_a_topic_deleted_between_runs_is_not_made_anew(load: CliLoad, change: TopicChanges) -> None:
    """Slow for the same reason."""
    load.crash_at("batch_acked", 5)
    change.delete(load.topic)
    refused(load.run(), load.topic, "csv2kafka reset")
    assert load.topic not in topics(load.bootstrap)


@pytest.mark.parametrize("left", [0, 100], ids=["all of it", "all but 100 records"])
def test_a_tail_purged_between_runs(load: CliLoad, change: TopicChanges, left: int) -> None:
    """With the tail goes the proof of what it held, even if the last rows are still there."""
    load.crash_at("batch_acked", 20)
    change.purge(load.topic, load.end() - left)
    before = read_topic(load.bootstrap, load.topic)
    refused(load.run(), "purged", "csv2kafka reset")
    assert read_topic(load.bootstrap, load.topic) == before


def test_a_purge_of_what_is_proven_does_not_stop_a_job(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path, change: TopicChanges
) -> None:
    """All but the newest record may go once a run has ended with a checkpoint."""
    topic = make_topic(config=SMALL_BATCHES)
    load = CliLoad(
        children, broker.bootstrap, topic, tmp_path, rows=3 * ROWS
    )  # too large to be read by the first answer
    with load.paused_at("batch_acked") as process:
        process.send_signal(signal.SIGTERM)
    assert load.wait().returncode == STOPPED
    purged = change.purge(load.topic, load.end() - 1)
    ended = load.run()
    assert ended.returncode == 0, ended
    for isolation in ISOLATIONS:
        assert read_topic(load.bootstrap, load.topic, isolation=isolation) == load.values[purged - MARKERS :]


def test_a_topic_purged_mid_run(load: CliLoad, change: TopicChanges) -> None:
    with load.paused_at("batch_acked", 5):
        purged = change.purge(load.topic)
    refused(load.wait(), "purged", "csv2kafka reset")
    left = read_topic(load.bootstrap, load.topic)
    assert left == load.values[purged - MARKERS :][: len(left)]
    assert len(left) < ROWS / 10
    refused(load.run(), "purged", "csv2kafka reset")
    assert read_topic(load.bootstrap, load.topic) == left


def exact_but_for(load: CliLoad, foreign: bytes, count: int) -> None:
    """Our rows exactly, with so many records of another program between them."""
    for isolation in ISOLATIONS:
        found = read_topic(load.bootstrap, load.topic, isolation=isolation)
        assert found.count(foreign) == count
        assert [value for value in found if value != foreign] == load.values


def test_another_program_writes_between_runs(load: CliLoad, change: TopicChanges) -> None:
    load.crash_at("batch_acked", 5)
    change.write_foreign(load.topic, [b"foreign"] * 7)
    ended = load.run()
    assert ended.returncode == 0, ended
    assert ended.receipt["foreign_records"] == 7
    assert "other programs write to" in ended.stderr
    exact_but_for(load, b"foreign", 7)


def test_another_program_writes_mid_run(load: CliLoad, change: TopicChanges) -> None:
    with load.paused_at("batch_acked", 5):
        change.write_foreign(load.topic, [b"foreign"] * 7)
    ended = load.wait()
    assert ended.returncode == 0, ended
    assert ended.receipt["foreign_records"] == 7
    assert "other programs write to" in ended.stderr
    exact_but_for(load, b"foreign", 7)


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_topic_that_became_compacted(load: CliLoad, change: TopicChanges, policy: str) -> None:
    load.crash_at("batch_acked", 5)
    change.configure(load.topic, "cleanup.policy", policy)
    before = load.assert_prefix()
    refused(load.run(), "compacted", "cleanup.policy=delete")
    assert load.assert_prefix() == before


def test_other_options_for_the_records(load: CliLoad) -> None:
    load.crash_at("batch_acked", 5)
    before = load.assert_prefix()
    refused(load.run("--delimiter", ";"), "delimiter: ',' then, ';' now", "give the old options again")
    assert load.assert_prefix() == before
    load.assert_goes_on()


async def use_up_epochs(load: CliLoad, is_enough: Callable[[ProducerEpoch], bool]) -> ProducerEpoch:
    """Start epochs of the job, as one instance after the other would, until one is what was waited for."""
    async with Client(KafkaSettings(bootstrap=load.bootstrap)) as client:
        while True:
            epoch = await new_epoch(client, transactional_id("job", load.topic))
            if is_enough(epoch):
                return epoch


@pytest.mark.slow
def test_producer_epochs_that_are_nearly_used_up(load: CliLoad) -> None:
    """32,000 starts of one job: the next is refused, until the operator says that no other instance lives."""
    load.crash_at("batch_acked", 5)
    before = load.assert_prefix()
    asyncio.run(use_up_epochs(load, lambda epoch: epoch.epoch == 31_999))
    refused(load.run(), "producer epoch 32000", "--accept-new-producer-id")
    assert load.assert_prefix() == before
    ended = load.run("--accept-new-producer-id")
    assert ended.returncode == 0, ended
    load.assert_exact()


@pytest.mark.slow
def test_a_producer_id_that_was_given_up(load: CliLoad) -> None:
    """All epochs used, so that the cluster has given the job a new producer id: only the operator may accept it."""
    load.crash_at("batch_acked", 5)
    before = load.assert_prefix()
    first = asyncio.run(use_up_epochs(load, lambda _: True))
    new = asyncio.run(use_up_epochs(load, lambda epoch: epoch.producer_id != first.producer_id))
    refused(load.run(), f"new producer id ({new.producer_id})", "--accept-new-producer-id")
    assert load.assert_prefix() == before
    ended = load.run("--accept-new-producer-id")
    assert ended.returncode == 0, ended
    load.assert_exact()
