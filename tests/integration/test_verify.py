"""`csv2kafka verify`: exact loads are called exact, and each planted difference is found and named."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from crc32c import crc32c

from csv2kafka.devbroker import Broker
from tests.support.bad_rows import QUARANTINE, MixedLoad
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 8_000


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, rows=ROWS)


def verify(load: CliLoad, *what: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the JSON that it printed)"""
    ended: subprocess.CompletedProcess[str] = load.children.cli("verify", *what, "-b", load.bootstrap, "--json", "-q")
    assert "Traceback" not in ended.stderr, ended
    return ended.returncode, json.loads(ended.stdout)


def verify_job(load: CliLoad) -> tuple[int, dict[str, Any]]:
    return verify(load, "job", "--checkpoint", load.checkpoint)


def produce(load: CliLoad, values: list[bytes], topic: str | None = None) -> None:
    """As another program would, in batches of its own."""
    producer = Producer({"bootstrap.servers": load.bootstrap, "compression.type": "gzip", "batch.size": 9_000})
    refused: list[object] = []
    for value in values:
        producer.produce(
            topic or load.topic, value, partition=0, on_delivery=lambda error, _: error and refused.append(error)
        )
    assert producer.flush(30) == 0
    assert refused == []


def test_an_exact_job(load: CliLoad) -> None:
    load.crash_at("batch_acked", 7)
    produce(load, [b"of another program"] * 3)
    ended = load.run()
    assert ended.returncode == 0, ended
    produce(load, [b"and another"])
    code, found = verify_job(load)
    assert (code, found["status"], found["rows"], found["records"]) == (0, "exact", ROWS, ROWS)
    assert found["bytes"] == load.path.stat().st_size
    assert found["crc32c"] == f"{crc32c(load.path.read_bytes()):08x}" == ended.receipt["crc32c"]
    assert found["differences"] == []


def test_all_that_a_job_can_be(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path
) -> None:
    """Keys over several partitions, headers, and bad rows in a topic of their own."""
    topic = make_topic(partitions=3, config=SMALL_BATCHES)
    load = MixedLoad(children, broker.bootstrap, topic, tmp_path, ROWS)
    load.options = (*QUARANTINE, "--key", "name", "--headers", "provenance")
    load.crash_at("batch_acked", 3)
    assert load.run().returncode == 0
    code, found = verify_job(load)
    assert (code, found["records"]) == (0, ROWS), found
    assert found["partitions"] == [f"{topic}-{number}" for number in range(3)] + [f"{topic}.bad-0"]
    produce(load, [b"1,2,3"], load.bad_topic)
    assert verify_job(load)[0] == 0
    assert verify(load, str(load.path), topic, *load.options)[0] == 65


@pytest.mark.parametrize("form", ["gzip", "raw"])
def test_other_files_and_formats(load: CliLoad, form: str) -> None:
    if form == "gzip":
        load.path.write_bytes(gzip.compress(load.path.read_bytes()))
    else:
        load.options = ("--format", "raw", "--skip-lines", "1", "--no-header")
    assert load.run().returncode == 0
    assert verify_job(load)[0] == 0


@pytest.mark.parametrize("plant", ["deleted", "doubled", "swapped", "changed", "foreign", "cut", "continued"])
def test_each_planted_difference_is_found(load: CliLoad, plant: str) -> None:
    values, at = list(load.values), 5_000
    if plant == "deleted":
        del values[at]
    elif plant == "doubled":
        values.insert(at, values[at - 1])
    elif plant == "swapped":
        values[at], values[at + 1] = values[at + 1], values[at]
    elif plant == "changed":
        values[at] = values[at].replace(b"name", b"Name")
    elif plant == "foreign":
        values.insert(at, b"of another program")
    elif plant == "cut":
        del values[at:]
    else:
        values.append(b"one more")
    produce(load, values)
    code, found = verify(load, str(load.path), load.topic)
    kinds = {"deleted": "missing", "foreign": "extra", "cut": "missing", "continued": "extra"}
    (difference,) = found["differences"]
    assert (code, found["status"]) == (65, "different")
    assert difference["how"] == kinds.get(plant, plant)
    record = ROWS + 1 if plant == "continued" else at + 1
    assert difference["record"] == record
    assert difference["offset"] == (None if plant == "cut" else record - 1)
    words = load.children.cli("verify", str(load.path), load.topic, "-b", load.bootstrap, "-q")
    assert words.stdout.startswith(f"DIFFERENT: {load.topic}-0 is not what {load.path} holds")
    assert f"{difference['how']}, " in words.stdout


def test_an_equal_topic_of_somebody_else(load: CliLoad) -> None:
    produce(load, load.values)
    assert verify(load, str(load.path), load.topic)[0] == 0


def test_what_cannot_be_verified(load: CliLoad) -> None:
    assert "there is no job job" in verify_job(load)[1]["error"]
    load.crash_at("position_moved", 3)
    assert "is not complete" in verify_job(load)[1]["error"]
    assert load.run().returncode == 0
    text = load.path.read_text()
    load.path.write_text(text.replace("name 7", "name 8"))
    code, found = verify_job(load)
    assert (code, "changed" in found["error"]) == (66, True)


def test_a_topic_with_more_partitions_than_the_job_knows(load: CliLoad) -> None:
    assert load.run().returncode == 0
    admin = AdminClient({"bootstrap.servers": load.bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions(load.topic, 2)])[load.topic].result(timeout=30)
    assert verify_job(load)[0] == 0
    code, found = verify(load, str(load.path), load.topic)
    assert (code, "has 2 partitions" in found["error"]) == (78, True)
