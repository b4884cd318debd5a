"""Rows spread over partitions by a key: killed at any moment, each has its rows once, in the order of the file."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from kafka.partitioner.default import murmur2

from csv2kafka.devbroker import Broker
from csv2kafka.failpoints import PIPELINE_STEPS, TAKEOVER_STEPS
from tests.support.cli_load import ISOLATIONS, CliLoad
from tests.support.kills import load_through_kills
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

PARTITIONS = 4
ROWS = 30_000
KEY = ("--key", "name")


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    topic = make_topic(partitions=PARTITIONS, config={"max.message.bytes": "10000"})
    return CliLoad(children, broker.bootstrap, topic, tmp_path, rows=ROWS, options=KEY)


def lanes_of(path: Path) -> list[list[bytes]]:
    """What each partition must hold, as csv, json and another client's murmur2 tell it."""
    lanes: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            value = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
            lanes[(murmur2(row["name"].encode()) & 0x7FFFFFFF) % PARTITIONS].append(value)
    return lanes


def assert_exact(load: CliLoad) -> None:
    wanted = lanes_of(load.path)
    assert all(wanted)
    for isolation in ISOLATIONS:
        for partition in range(PARTITIONS):
            assert read_topic(load.bootstrap, load.topic, partition, isolation) == wanted[partition]


def assert_goes_on(load: CliLoad) -> None:
    ended = load.run()
    assert ended.returncode == 0, ended
    assert_exact(load)


@pytest.mark.parametrize("step", ["batch_sent", "batch_acked", "position_moved", "checkpoint_saved", "all_acked"])
def test_killed_at_a_step_of_the_pipeline(load: CliLoad, step: str) -> None:
    load.crash_at(step)
    assert_goes_on(load)


@pytest.mark.parametrize("step", ["partition_added", "tail_proven", "takeover_saved"])
def test_killed_at_a_step_of_a_resumes_take_over(load: CliLoad, step: str) -> None:
    """Lanes are ahead of the position by different numbers of rows, and stay so through a second death."""
    load.crash_at("batch_sent", 9)
    load.crash_at(step)
    load.crash_at("batch_sent", 3)
    assert_goes_on(load)


@pytest.mark.slow
@pytest.mark.parametrize("step", [step for step in (*TAKEOVER_STEPS, *PIPELINE_STEPS) if step != "job_completed"])
def test_killed_twice_at_every_step(load: CliLoad, step: str) -> None:
    load.crash_at("position_moved", 2)
    load.crash_at(step)
    assert_goes_on(load)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(load: CliLoad, seed: int) -> None:
    command = ("run", load.source, load.topic, "-b", load.bootstrap, "--checkpoint", load.checkpoint, *KEY)
    kills = load_through_kills(
        partial(load.children.start_cli, *command),
        load.bootstrap,
        load.topic,
        partitions=PARTITIONS,
        kills=4,
        rows=ROWS,
        rng=random.Random(seed),
    )
    assert kills
    assert all(kill.end_after > kill.end_before for kill in kills)
    assert_exact(load)


def test_the_topic_got_more_partitions(load: CliLoad) -> None:
    load.crash_at("position_moved", 2)
    admin = AdminClient({"bootstrap.servers": load.bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions(load.topic, PARTITIONS + 1)])[load.topic].result(timeout=30)
    load.run().assert_failed(78, "its keys would go elsewhere", "another --job-id")
