"""SIGKILL at random moments of a load from a compressed file: the topic equals the file's text for all consumers."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.checkpoints import sqlite_items
from tests.support.cli_load import ISOLATIONS
from tests.support.compressed import compressed
from tests.support.kills import load_through_kills
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.slow]

ROWS = 250_000
KILLS = 3
MEMBERS = 23  # of more than a megabyte, none of them cut at a row's end


@pytest.fixture(scope="module")
def text() -> bytes:
    rng = random.Random(7)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(("id", "name", "note", "bits"))
    notes = ['with "quotes" inside', "two\nlines", "Grüße, 日本", "", "plain text"]
    writer.writerows(
        (row, f"customer {row % 9973}", notes[row % 5], f"{rng.getrandbits(256):064x}") for row in range(ROWS)
    )
    return out.getvalue().encode()


@pytest.fixture(scope="module")
def expected(text: bytes) -> list[bytes]:
    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    return [dumps(row).encode() for row in csv.DictReader(io.StringIO(text.decode(), newline=""))]


@pytest.mark.parametrize(("codec", "members"), [("gzip", 1), ("gzip", MEMBERS), ("zstd", MEMBERS)])
def test_the_topic_equals_the_text_after_kills(
    broker: Broker,
    topic: str,
    children: Children,
    tmp_path: Path,
    text: bytes,
    expected: list[bytes],
    codec: str,
    members: int,
) -> None:
    path, checkpoints = tmp_path / f"data.csv.{codec}", tmp_path / "checkpoints.db"
    size = -(-len(text) // members)
    path.write_bytes(compressed(codec, [text[at : at + size] for at in range(0, len(text), size)]))
    kills = load_through_kills(
        lambda: children.start_cli(
            *("run", path, topic, "-b", broker.bootstrap, "--job-id", "job"),
            *("--checkpoint", f"sqlite:///{checkpoints}"),
        ),
        broker.bootstrap,
        topic,
        kills=KILLS,
        rows=ROWS,
        rng=random.Random(members),
    )
    assert len(kills) == KILLS
    assert all(kill.end_after > kill.end_before + 1 for kill in kills)
    for isolation in ISOLATIONS:
        assert read_topic(broker.bootstrap, topic, isolation=isolation) == expected
    place = sqlite_items(checkpoints)["job"]["restart_text_byte"]
    assert place == (members - 1) * size, "the last member's"
