"""A real broker that throttles the loader: nothing is lost, and everybody is told why it is slow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka import jobs
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.devbroker import Broker
from csv2kafka.metrics.progress import ProgressLines
from csv2kafka.model import Sample
from tests.support.admin import limit_client
from tests.support.loads import Load, write_csv
from tests.support.oracle import read_topic

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 8_000
SMALL_BATCHES = {"max.message.bytes": "20000"}  # so that each pause is short
BYTES_PER_S = 24_000  # which looks back over some ten seconds: most of the file goes through without a pause


class Samples:
    def __init__(self) -> None:
        self.taken: list[Sample] = []

    def record(self, sample: Sample) -> None:
        self.taken.append(sample)

    def close(self) -> None:
        pass


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> Load:
    return Load(broker.bootstrap, tmp_path / "data.csv", make_topic(config=SMALL_BATCHES), tmp_path / "ck.db")


def test_a_quota_is_kept_to_and_told(
    broker: Broker, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="csv2kafka")
    client_id = f"slow-{load.topic}"
    limit_client(broker, client_id, BYTES_PER_S)
    values, samples, lines = write_csv(load.path, ROWS), Samples(), ProgressLines()
    parts = jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(samples, lines))
    receipt = load.run(parts, kafka={"client_id": client_id}, compression="none")
    lines.close()

    assert receipt.status == "complete"
    assert read_topic(load.bootstrap, load.topic) == values
    throttled = [sample.throttled_s for sample in samples.taken]
    assert throttled[-1] > 0
    assert throttled == sorted(throttled)
    assert len([line for line in caplog.messages if line.startswith("a quota holds back")]) == 1
    assert re.search(r", throttled \d+\.\d s", caplog.messages[-1])


def test_without_a_quota_nothing_is_said_of_one(load: Load) -> None:
    write_csv(load.path, ROWS)
    samples = Samples()
    load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(samples,)), compression="none")
    assert {sample.throttled_s for sample in samples.taken} == {0}
