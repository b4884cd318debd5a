"""`csv2kafka plan`: what it foretells comes true, what it warns of is so, and nothing is sent or created."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import topics
from tests.support.bad_rows import QUARANTINE, MixedLoad
from tests.support.cli_load import CliLoad
from tests.support.loads import write_csv
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 8_000


@pytest.fixture
def load(broker: Broker, topic: str, children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, topic, tmp_path, rows=ROWS)


def plan(load: CliLoad, *options: str) -> dict[str, Any]:
    """What it says as JSON; its exit code is in there."""
    ended = load.children.cli(
        *("plan", load.source, load.topic, "-b", load.bootstrap, "--checkpoint", load.checkpoint),
        *("--job-id", "job", "--json", *load.options, *options),
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == found["exit_code"], ended
    assert "Traceback" not in ended.stderr
    return found


def words(found: dict[str, Any]) -> str:
    return " ".join(f"{finding['what']} {finding['fix']}" for finding in found["findings"])


def test_what_it_foretells_comes_true(load: CliLoad) -> None:
    found = plan(load)
    assert (found["status"], found["exit_code"]) == ("ready", 0)
    assert (found["rows"], found["rows_error"]) == (ROWS, 0)
    assert [record.encode() for record in found["records"]] == load.values[:3]
    assert found["topic"]["exists"]
    assert found["topic"]["records"] == 0
    assert "1 replica: with fewer than 3" in words(found)
    assert "min.insync.replicas=1" in words(found)
    assert read_topic(load.bootstrap, load.topic) == []
    assert load.run().receipt["rows"] == found["rows"]
    assert "complete already" in words(plan(load))


def test_nothing_is_created(broker: Broker, children: Children, tmp_path: Path) -> None:
    load = CliLoad(children, broker.bootstrap, "not-there", tmp_path, rows=10)
    found = plan(load)
    assert (found["exit_code"], found["topic"]["exists"]) == (0, False)
    assert plan(load, "--no-create-topic")["exit_code"] == 78
    assert "not-there" not in topics(broker.bootstrap)


@pytest.mark.parametrize(
    ("config", "exit_code", "expected"),
    [
        ({"cleanup.policy": "compact"}, 78, "is compacted"),
        ({"retention.ms": "3600000"}, 0, "keeps records for 1.0 h only"),
        ({"retention.bytes": "1000"}, 0, "first rows would be deleted before its last ones"),
        ({"min.insync.replicas": "2"}, 75, "has a partition with 1 replicas in sync, and needs 2"),
        ({"unclean.leader.election.enable": "true"}, 0, "may elect a leader that lacks acknowledged rows"),
        ({"max.message.bytes": "200"}, 65, "more than the topic's max.message.bytes (200)"),
    ],
)
def test_settings_that_endanger_the_promise(
    load: CliLoad, make_topic: Callable[..., str], config: dict[str, str], exit_code: int, expected: str
) -> None:
    load.topic = make_topic(config=config)
    if "max.message.bytes" in config:
        load.path.write_text("id,name\n1," + random.Random(1).randbytes(300).hex() + "\n")
    found = plan(load)
    assert found["exit_code"] == exit_code
    assert expected in words(found)


def test_bad_rows_are_told_and_may_be_borne(broker: Broker, topic: str, children: Children, tmp_path: Path) -> None:
    load = MixedLoad(children, broker.bootstrap, topic, tmp_path, ROWS)
    found = plan(load)
    assert found["exit_code"] == 0
    assert f"{len(load.bad)} of the first 8,000 rows cannot become records; row 4 has 1 field" in words(found)
    assert f"set apart in {topic}.bad" in words(found)
    assert all(b'"id"' in record.encode() for record in found["records"])
    load.options = ()
    assert plan(load)["exit_code"] == 65


def test_a_dead_letter_topic_that_is_not_there(load: CliLoad) -> None:
    place = f"{load.topic}.bad"
    assert plan(load)["dead_letters"] is None
    assert plan(load, *QUARANTINE, "--bad-rows-to", "./bad.jsonl")["dead_letters"] is None
    found = plan(load, *QUARANTINE)
    assert (found["exit_code"], found["dead_letters"]["name"], found["dead_letters"]["exists"]) == (0, place, False)
    refused = plan(load, *QUARANTINE, "--no-create-topic")
    assert refused["exit_code"] == 78
    assert f"dead-letter topic {place} does not exist" in words(refused)
    assert place not in topics(load.bootstrap)


@pytest.mark.parametrize(
    ("config", "exit_code", "expected"),
    [
        ({"cleanup.policy": "compact"}, 78, "is compacted"),
        ({"retention.ms": "3600000"}, 0, "keeps records for 1.0 h only"),
        ({"min.insync.replicas": "2"}, 75, "has a partition with 1 replicas in sync, and needs 2"),
        ({"unclean.leader.election.enable": "true"}, 0, "may elect a leader that lacks acknowledged rows"),
        ({}, 0, "acknowledges what one replica has (min.insync.replicas=1)"),
    ],
)
def test_settings_that_endanger_what_is_set_apart(
    load: CliLoad, make_topic: Callable[..., str], config: dict[str, str], exit_code: int, expected: str
) -> None:
    """The topic of the good rows is without fault in this."""
    place = make_topic(config=config)
    found = plan(load, *QUARANTINE, "--bad-rows-to", place)
    assert found["exit_code"] == exit_code
    assert f"dead-letter topic {place} {expected}" in words(found)
    assert found["dead_letters"]["settings"].items() >= config.items()


def test_bad_rows_that_are_deleted_while_the_load_goes_on(load: CliLoad, make_topic: Callable[..., str]) -> None:
    write_csv(load.path, 200_000)
    place = make_topic(config={"retention.ms": "1"})
    found = plan(load, *QUARANTINE, "--bad-rows-to", place)
    assert f"dead-letter topic {place} keeps records for 0.0 h, less than the load takes" in words(found)


def test_a_bad_row_that_is_too_large_for_its_topic(load: CliLoad, make_topic: Callable[..., str]) -> None:
    place = make_topic(config={"max.message.bytes": "400"})
    load.path.write_text("id,name\n1," + random.Random(1).randbytes(300).hex() + ",x\n2,b\n")
    options = (*QUARANTINE, "--bad-rows-to", place)
    found = plan(load, *options)
    assert found["exit_code"] == 65
    assert "more than the dead-letter topic's max.message.bytes (400)" in words(found)
    load.run(*options).assert_failed(65, "more than the dead-letter topic's max.message.bytes (400)")


def test_a_job_that_has_begun(load: CliLoad) -> None:
    load.path.write_text(load.path.read_text().replace("\n5000,", "\n5000"))
    load.run().assert_failed(65, "row 5001")
    assert plan(load, "--bad-rows", "quarantine")["resumes_at_row"] == 5000


def test_several_partitions(load: CliLoad, make_topic: Callable[..., str]) -> None:
    load.topic = make_topic(partitions=3)
    assert "has 3 partitions" in plan(load)["error"]
    assert plan(load, "--key", "id")["topic"]["partitions"] == [0, 1, 2]
    assert plan(load, "--partition", "2")["topic"]["partitions"] == [2]


def test_for_people(load: CliLoad) -> None:
    place = ("-b", load.bootstrap, "--checkpoint", load.checkpoint)
    ended = load.children.cli("plan", load.source, load.topic, *place, *QUARANTINE)
    assert ended.stdout.startswith("ready\n")
    assert f"  bad rows    {load.topic}.bad (not there" in ended.stdout
    for expected in ("rows        8,000", "columns     2: id, name", "first records", '{"id":"0"', "note  "):
        assert expected in ended.stdout, ended
