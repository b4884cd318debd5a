"""Three hundred SIGKILLs at random moments, over loads of every codec: all consumers see the file as it is."""

from __future__ import annotations

import random
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic
from tests.support.cli_load import ISOLATIONS
from tests.support.kills import load_through_kills
from tests.support.loads import write_csv
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

KILLS = 300  # each counts only when rows had moved the end offset since the start, and the job was not through
KILLS_OF_A_LOAD = 30
ROWS = 500_000
CODECS = ("lz4", "zstd", "gzip", "snappy", "none")


def test_killed_at_random_moments(broker: Broker, children: Children, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    values = write_csv(path, ROWS)
    counted = 0
    for seed in count():
        if counted >= KILLS:
            break
        topic = create_topic(broker.bootstrap, config={"max.message.bytes": "60000"})  # many moments to die at
        command = ("run", path, topic, "-b", broker.bootstrap, "--compression", CODECS[seed % len(CODECS)])
        kills = load_through_kills(
            partial(children.start_cli, *command),
            broker.bootstrap,
            topic,
            kills=KILLS_OF_A_LOAD,
            rows=ROWS,
            rng=random.Random(seed),
        )
        assert all(kill.end_after > kill.end_before for kill in kills)
        for isolation in ISOLATIONS:
            assert read_topic(broker.bootstrap, topic, isolation=isolation) == values
        counted += len(kills)
