"""SIGKILL at random moments: the topic equals the file, for both kinds of consumers, whatever was cut short."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.kills import load_through_kills
from tests.support.oracle import iter_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 600_000
KILLS = 6  # in each of the five tests below: 30 in all


def _rows() -> Iterator[tuple[str, ...]]:
    rng = random.Random(7)
    notes = [
        rng.choice(["plain text", 'with "quotes" inside', "two\nlines", "a, b; c", "Grüße, 日本", ""]) * 3
        for _ in range(997)
    ]
    for row in range(ROWS):
        yield str(row), f"customer {row % 9973}", notes[row % 997], f"{row * 2654435761 % 2**32:032b}" * 4


def _digest(values: Iterable[bytes]) -> tuple[int, str]:
    """How many values and a hash of all of them with their lengths: equal only for equal values in equal order."""
    digest = hashlib.sha256()
    count = 0
    for value in values:
        digest.update(b"%d:" % len(value))
        digest.update(value)
        count += 1
    return count, digest.hexdigest()


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str]]:
    """A file, and what it must become as csv and json tell it."""
    path = tmp_path_factory.mktemp("kills") / "big.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "name", "note", "bits"))
        writer.writerows(_rows())
    with path.open(encoding="utf-8-sig", newline="") as file:
        dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        return path, _digest(dumps(row).encode() for row in csv.DictReader(file))


@pytest.mark.parametrize(("seed", "compression"), list(enumerate(["lz4", "zstd", "gzip", "snappy", "none"])))
def test_the_topic_equals_the_file_after_kills(
    broker: Broker,
    topic: str,
    children: Children,
    tmp_path: Path,
    big_file: tuple[Path, tuple[int, str]],
    seed: int,
    compression: str,
) -> None:
    path, expected = big_file
    checkpoint = f"sqlite:///{tmp_path / 'checkpoints.db'}"
    kills = load_through_kills(
        lambda: children.start_cli(
            *("run", path, topic, "-b", broker.bootstrap),
            *("--checkpoint", checkpoint, "--compression", compression),
        ),
        broker.bootstrap,
        topic,
        kills=KILLS,
        rows=ROWS,
        rng=random.Random(seed),
    )
    assert len(kills) == KILLS
    assert all(kill.end_after > kill.end_before + 1 for kill in kills)
    for isolation in ("read_uncommitted", "read_committed"):
        assert _digest(iter_topic(broker.bootstrap, topic, isolation=isolation)) == expected

    again = children.cli("run", path, topic, "-b", broker.bootstrap, "--checkpoint", checkpoint)
    assert (again.returncode, again.stdout.splitlines()[0].split(":")[0]) == (0, "already complete")
