"""A topic that forgets too soon: the loader warns when it starts, and stops when what it relies on has expired."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.cli_load import ROWS, SMALL_BATCHES, CliLoad, Ended
from tests.support.oracle import read_topic, start_offset
from tests.support.processes import Children
from tests.support.topic_changes import TopicChanges

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

CONFIGURATION = 78
HOUR_MS, MOMENT_MS = "3600000", "1"


@pytest.fixture(scope="module")
def tidy_broker() -> Iterator[Broker]:
    """A broker that looks for expired records all the time, not every five minutes."""
    often = {"log.retention.check.interval.ms": "100", "log.initial.task.delay.ms": "100"}
    with Broker(properties=often) as running:
        yield running


@pytest.fixture
def load(tidy_broker: Broker, children: Children, tmp_path: Path) -> CliLoad:
    topic = create_topic(tidy_broker.bootstrap, config={**SMALL_BATCHES, "retention.ms": HOUR_MS})
    return CliLoad(children, tidy_broker.bootstrap, topic, tmp_path)


def let_everything_expire(load: CliLoad) -> None:
    """Shorten the topic's retention, and wait until nothing is left."""
    TopicChanges(load.bootstrap).configure(load.topic, "retention.ms", MOMENT_MS)
    deadline_s = time.monotonic() + 60
    while start_offset(load.bootstrap, load.topic) < load.end():
        assert time.monotonic() < deadline_s, "nothing expires"


def refused_as_expired(ended: Ended) -> None:
    assert ended.returncode == CONFIGURATION, ended
    assert "expired" in str(ended.receipt["error"])
    assert "csv2kafka reset" in str(ended.receipt["hint"])


def test_a_marker_that_expired_between_runs(load: CliLoad) -> None:
    load.crash_at("batch_acked", 5)
    let_everything_expire(load)
    ended = load.run()
    refused_as_expired(ended)
    assert f"topic {load.topic} keeps records for 0.0 h only" in ended.stderr
    assert read_topic(load.bootstrap, load.topic) == []


def test_records_that_expire_under_the_loader(load: CliLoad) -> None:
    with load.paused_at("batch_acked", 5):
        let_everything_expire(load)
    ended = load.wait()
    refused_as_expired(ended)
    assert f"topic {load.topic} keeps records for 1.0 h only" in ended.stderr
    assert load.end() < ROWS / 2
    refused_as_expired(load.run())
