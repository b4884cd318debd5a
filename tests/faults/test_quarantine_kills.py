"""Bad rows are set apart each once, whenever the loader dies: in a topic of their own, and in a file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka.partitioner.default import murmur2

from csv2kafka.devbroker import Broker
from csv2kafka.failpoints import PIPELINE_STEPS, TAKEOVER_STEPS
from tests.support.bad_rows import QUARANTINE, MixedLoad, in_topic
from tests.support.cli_load import ISOLATIONS
from tests.support.kills import load_through_kills
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 30_000
TO = ("topic", "file")


@pytest.fixture(params=TO)
def load(
    request: pytest.FixtureRequest,
    broker: Broker,
    make_topic: Callable[..., str],
    children: Children,
    tmp_path: Path,
) -> MixedLoad:
    load = MixedLoad(children, broker.bootstrap, make_topic(config={"max.message.bytes": "10000"}), tmp_path, ROWS)
    if request.param == "file":
        load.options = (*QUARANTINE, "--bad-rows-to", str(load.bad_file))
    return load


def assert_whole(load: MixedLoad) -> None:
    if load.options == QUARANTINE:
        load.assert_whole()
    else:
        load.assert_whole_with_file()


def assert_goes_on(load: MixedLoad) -> None:
    ended = load.run()
    assert ended.returncode == 0, ended
    assert_whole(load)


@pytest.mark.parametrize(
    "step", ["batch_sent:4", "batch_sent:5", "batch_acked:7", "position_moved:7", "checkpoint_saved:3"]
)
def test_killed_at_a_step(load: MixedLoad, step: str) -> None:
    name, number = step.split(":")
    load.crash_at(name, int(number))
    assert_goes_on(load)


@pytest.mark.slow
@pytest.mark.parametrize("step", [step for step in (*TAKEOVER_STEPS, *PIPELINE_STEPS) if step != "job_completed"])
def test_killed_twice_at_every_step(load: MixedLoad, step: str) -> None:
    load.crash_at("batch_sent", 9)
    load.crash_at(step)
    assert_goes_on(load)


@pytest.mark.parametrize("load", ["topic"], indirect=True)
@pytest.mark.parametrize("step", ["epoch_saved", "tail_proven", "position_moved"])
def test_killed_while_a_failed_job_begins_to_set_rows_apart(load: MixedLoad, step: str) -> None:
    load.options = ()
    load.run().assert_failed(65, "row 4 ")
    load.options = QUARANTINE
    load.crash_at(step)
    assert_goes_on(load)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(load: MixedLoad, seed: int) -> None:
    kills = load_through_kills(load.start, load.bootstrap, load.topic, kills=4, rows=ROWS, rng=random.Random(seed))
    assert kills
    assert all(kill.end_after > kill.end_before for kill in kills)
    assert_whole(load)


@pytest.mark.parametrize("step", ["batch_sent", "position_moved"])
def test_killed_with_good_rows_in_several_partitions(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path, step: str
) -> None:
    topic = make_topic(partitions=3, config={"max.message.bytes": "10000"})
    load = MixedLoad(children, broker.bootstrap, topic, tmp_path, ROWS)
    load.options = (*QUARANTINE, "--key", "name")
    for number in (9, 5):
        load.crash_at(step, number)
    ended = load.run()
    assert ended.returncode == 0, ended
    lanes: list[list[bytes]] = [[], [], []]
    for value in load.values:
        lanes[(murmur2(json.loads(value)["name"].encode()) & 0x7FFFFFFF) % 3].append(value)
    for isolation in ISOLATIONS:
        assert [read_topic(load.bootstrap, topic, lane, isolation) for lane in range(3)] == lanes
        assert in_topic(load.bootstrap, load.bad_topic, load.source, isolation) == load.bad


@pytest.mark.parametrize("load", ["file"], indirect=True)
def test_a_file_cut_by_somebody_is_noticed(load: MixedLoad) -> None:
    load.crash_at("position_moved", 7, "--checkpoint-interval", "1")
    whole = load.bad_file.read_bytes()
    load.bad_file.write_bytes(b"")
    load.run().assert_failed(78, "has 0 bytes, but this job has written")
    load.bad_file.write_bytes(whole)
    assert_goes_on(load)


@pytest.mark.parametrize("load", ["file"], indirect=True)
def test_a_disk_too_full_for_the_file(load: MixedLoad) -> None:
    """The rows whose bad ones could not be written are not counted, and come again."""
    load.run("--bad-rows-to", "/dev/full").assert_failed(75, "/dev/full, cannot be written now", "has room")
    load.options = (*QUARANTINE, "--bad-rows-to", "/dev/full")
    load.run().assert_failed(75, "/dev/full, cannot be written now")
    load.assert_prefix()
