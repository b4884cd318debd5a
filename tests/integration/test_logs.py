"""What a run says where no terminal is: a JSON object a line, each with job, row and offset; and a run held back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path)


def lines_of(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_every_line_is_an_object_and_says_where(load: CliLoad) -> None:
    ended = load.run("--log-format", "json", "-v")
    lines = lines_of(ended.stderr)
    assert {line["job"] for line in lines} == {"job"}
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert lines[0]["time"].endswith("+00:00")
    assert lines[-1]["row"] == len(load.values)
    assert lines[-1]["offset"] == len(load.values)  # the take-over's marker lies before the first row


def test_it_is_what_comes_by_default_where_no_terminal_is(load: CliLoad) -> None:
    load.env["CSV2KAFKA_LOG_FORMAT"] = ""
    assert lines_of(load.run().stderr)


def test_details_tell_where_a_resume_stands(load: CliLoad) -> None:
    """The cluster, the topic, the fence, and what lay behind the checkpoint; and not a line for each batch."""
    load.crash_at("batch_acked", 5)
    ended = load.run("--log-format", "json", "-v")
    details = [line["message"] for line in lines_of(ended.stderr) if line["level"] == "DEBUG"]
    for expected in (
        rf"options: (?=.*source=)(?=.*topic={load.topic}, ).*bootstrap={load.bootstrap}, security.protocol=PLAINTEXT$",
        r"lease taken in sqlite://\S+; its checkpoint: IN_PROGRESS, row [\d,]+, byte [\d,]+, saved \S+",
        r"records: json of \d+ columns, key none, lz4; batches of at most 20.0 kB",
        r"what lies in the topic is proven against the file: going on behind row [\d,]+, byte [\d,]+",
        rf"connected to {load.bootstrap} \(PLAINTEXT\); brokers: 1 at {load.bootstrap}",
        rf"topic {load.topic} \(id \S+\): 1 partition\(s\), 1 replica\(s\), max.message.bytes=20000, .*"
        r"retention.ms=\d+, .*; writing to partition 0 \(leader: broker 1\)",
        rf"csv2kafka:job:{load.topic} is now producer id \d+, epoch 1 in {load.topic}-0: .* shut out by a marker",
        rf"read {load.topic}-0 from the checkpoint's offset \d+ to \d+: \d+ batches, \d+ of them of this job",
    ):
        assert len([line for line in details if re.match(expected, line)]) == 1, (expected, details)
    assert len(details) < 14 < len(load.values) / 2_000
    assert not [line for line in lines_of(load.run("--log-format", "json").stderr) if line["level"] == "DEBUG"]


def test_an_error_is_a_line_too(load: CliLoad) -> None:
    load.path.write_text(load.path.read_text().replace("\n5000,", "\n5000"))
    ended = load.run("--log-format", "json")
    last = lines_of(ended.stderr)[-1]
    assert (last["level"], last["exit_code"], last["row"]) == ("ERROR", 65, 5000)
    assert last["message"].startswith("row 5001 ")
    assert last["hint"]


def test_no_faster_than_allowed(load: CliLoad) -> None:
    """Not much slower than without a limit would be a limit not kept: the receipt's own time tells."""
    load.values = load.values[:5_000]
    load.path.write_text("\n".join(load.path.read_text().splitlines()[:5_001]) + "\n")
    assert load.run("--compression", "none", "--max-bytes-per-s", "100000").returncode == 0
    load.assert_exact()
    sent_bytes = sum(map(len, load.values))
    receipt = load.children.cli(
        *("run", load.source, load.topic, "-b", load.bootstrap, "--checkpoint", load.checkpoint, "--job-id", "again"),
        *("--json", "--compression", "none", "--max-bytes-per-s", "100000"),
    )
    assert json.loads(receipt.stdout)["duration_s"] > (sent_bytes - 20_000) / 100_000
