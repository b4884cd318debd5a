"""A file loaded in parts, each a job of its own: together the topic's partitions hold the file's rows, each once."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from crc32c import crc32c

from csv2kafka import jobs
from csv2kafka.devbroker import Broker
from csv2kafka.errors import JobConflict, SourceChanged, UsageError
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Part, SourceIdentity
from csv2kafka.receipt import Receipt
from csv2kafka.settings import RunSettings
from csv2kafka.sources import open_source
from tests.support.bad_rows import in_topic
from tests.support.cli_load import ISOLATIONS, SMALL_BATCHES
from tests.support.kills import load_through_kills
from tests.support.part_load import PartedFile, PartLoad
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 9_000
MIDDLE = (3_000, 7_000)  # the rows behind the first of these numbers, up to the second

Loads = Callable[..., PartLoad]


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    return make_topic(partitions=3, config=SMALL_BATCHES)


@pytest.fixture
def file(tmp_path: Path) -> PartedFile:
    return PartedFile(tmp_path / "data.csv", ROWS)


@pytest.fixture
def load_of(children: Children, broker: Broker, topic: str) -> Loads:
    """`load_of(file, part, partition=0)`."""
    return lambda file, part, partition=0: PartLoad(children, broker.bootstrap, topic, file, part, partition)


def load_here(load: PartLoad, part: Part | None, pinned: SourceIdentity | None = None) -> Receipt:
    """In this process."""
    given = {name: value for name, value in load.wanted.items() if name not in ("part", "bootstrap")}
    settings = RunSettings(kafka=KafkaSettings(bootstrap=load.bootstrap), **given)
    return jobs.load(settings, jobs.Parts(part=part, pinned=pinned), stop=threading.Event(), notify=lambda _: None)


def test_three_parts_are_the_file(file: PartedFile, load_of: Loads) -> None:
    loads = [load_of(file, part, number) for number, part in enumerate(file.parts(3))]
    running = [load.start() for load in loads]  # side by side
    for load, process in zip(loads, running, strict=True):
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        said, part = json.loads(stdout), Part(**load.wanted["part"])
        text = file.path.read_bytes()[part.start_byte : part.end_byte]
        assert (said["bytes"], said["crc32c"]) == (len(text), f"{crc32c(text):08x}")
        assert said["part"] == load.wanted["part"]
        rows = f"rows {part.first_row + 1:,} to {part.first_row + said['rows']:,} of the file"
        assert f"  part        {rows}\n" in said["words"]
    for isolation in ISOLATIONS:
        found = [load.read(isolation) for load in loads]
        assert all(found)
        assert sorted((row for rows in found for row in rows), key=lambda row: row.number) == file.rows
        assert all(rows == sorted(rows, key=lambda row: row.number) for rows in found)


def test_a_second_run_says_complete_and_another_part_is_refused(file: PartedFile, load_of: Loads) -> None:
    part = file.part(*MIDDLE)
    load = load_of(file, part)
    done = load_here(load, part)
    assert (done.status, done.rows, done.rows_this_run, done.resumed_at_row) == ("complete", 4_000, 4_000, 3_000)
    again = load_here(load, part)
    assert (again.status, again.rows, again.bytes, again.part) == ("already complete", done.rows, done.bytes, part)
    for other in (file.part(3_000, 7_001), None):
        with pytest.raises(JobConflict, match=r"loads the rows from 3,001 on \(bytes .*\) of the file, not ") as caught:
            load_here(load, other)
        assert ("all rows" in caught.value.message) is (other is None)
    assert load.read() == file.rows[slice(*MIDDLE)]


def test_no_part_of_a_job_that_loads_the_file(file: PartedFile, load_of: Loads) -> None:
    load = load_of(file, file.part(*MIDDLE))
    load_here(load, None)
    with pytest.raises(JobConflict, match=r"loads all rows of the file, not the rows from 3,001 on"):
        load_here(load, file.part(*MIDDLE))


def test_an_empty_part(file: PartedFile, load_of: Loads) -> None:
    part = file.part(3_000, 3_000)
    load = load_of(file, part)
    done = load_here(load, part)
    assert (done.status, done.rows, done.bytes, done.crc32c) == ("complete", 0, 0, "00000000")
    assert load.read() == []


@pytest.mark.parametrize(
    ("step", "number"),
    [("epoch_saved", 1), ("takeover_saved", 1), ("batch_sent", 2), ("position_moved", 4), ("all_acked", 1)],
)
def test_a_part_goes_on_where_it_was_killed(file: PartedFile, load_of: Loads, step: str, number: int) -> None:
    part = file.part(*MIDDLE)
    load = load_of(file, part)
    load.crash_at(step, number)
    done = load.run()
    assert done.returncode == 0, done
    text = file.path.read_bytes()[part.start_byte : part.end_byte]
    said = done.receipt
    assert (said["rows"], said["crc32c"]) == (4_000, f"{crc32c(text):08x}")
    assert said["resumed_at_row"] == 7_000 - int(str(said["rows_this_run"]))
    for isolation in ISOLATIONS:
        assert load.read(isolation) == file.rows[slice(*MIDDLE)]


def test_a_part_through_kills_at_random(tmp_path: Path, broker: Broker, topic: str, load_of: Loads) -> None:
    file = PartedFile(tmp_path / "big.csv", 160_000)
    load = load_of(file, file.part(40_000, 120_000))
    kills = load_through_kills(load.start, broker.bootstrap, topic, kills=3, rows=80_000, rng=random.Random(11))
    assert len(kills) == 3
    assert load.read() == file.rows[40_000:120_000]
    assert load.run().receipt["status"] == "already complete"


def test_status_counts_the_parts_rows(children: Children, tmp_path: Path, load_of: Loads) -> None:
    file = PartedFile(tmp_path / "data.csv", ROWS, bad=(5_000,))
    load = load_of(file, file.part(*MIDDLE))
    assert load.run().returncode == 65
    said = json.loads(children.cli("status", load.job_id, "--checkpoint", load.checkpoint, "--json").stdout)
    assert said["rows"] == 1_999
    assert said["progress"] == pytest.approx(1_999 / 4_000, abs=0.01)
    assert said["part"] == load.wanted["part"]
    words = children.cli("status", load.job_id, "--checkpoint", load.checkpoint).stdout
    assert "  rows        1,999 (50.0% of the part)\n" in words
    assert "  part        the rows from 3,001 on (bytes " in words


@pytest.mark.parametrize("number", [3_001, 5_000])
def test_a_bad_row_is_told_by_its_number_in_the_file(tmp_path: Path, load_of: Loads, number: int) -> None:
    file = PartedFile(tmp_path / "data.csv", ROWS, bad=(number,))
    load = load_of(file, file.part(*MIDDLE))
    ended = load.run()
    at_byte = file.rows[number - 1].byte_offset
    ended.assert_failed(65, f"row {number} (bytes {at_byte} to ", "has 3 fields", "the job's rows before it are safe")
    assert load.read() == file.rows[3_000 : number - 1]


def test_bad_rows_of_a_part_are_set_apart(children: Children, tmp_path: Path, load_of: Loads) -> None:
    bad = (2_999, 3_001, 5_000, 7_000, 7_001)
    file = PartedFile(tmp_path / "data.csv", ROWS, bad)
    load = load_of(file, file.part(*MIDDLE))
    load.crash_at("position_moved", 3, bad_rows="quarantine")
    assert load.run(bad_rows="quarantine", max_bad_rows="2").returncode == 65
    ended = load.run(bad_rows="quarantine", max_bad_rows="0.1%")
    assert ended.returncode == 0, ended
    assert ended.receipt["rows"] == 4_000
    apart = in_topic(load.bootstrap, f"{load.wanted['topic']}.bad", load.wanted["source"])
    assert [(row.row, row.byte_offset) for row in apart] == [
        (number, file.rows[number - 1].byte_offset) for number in (3_001, 5_000, 7_000)
    ]
    assert load.read() == [row for row in file.rows[slice(*MIDDLE)] if row.number not in bad]
    arguments = ("verify", load.job_id, "--checkpoint", load.checkpoint, "-b", load.bootstrap, "-q")
    assert children.cli(*arguments).returncode == 0


@pytest.mark.parametrize(
    ("rows", "limit", "words"),
    [
        (MIDDLE, "0.05%", r"1 of the first 1\d{3} rows are bad"),  # 2 of the file's 5,000 would be borne
        ((3_000, 3_500), "0.1%", "1 of the first 500 rows are bad"),  # told at the part's end
    ],
)
def test_a_share_of_bad_rows_is_one_of_the_parts(
    tmp_path: Path, load_of: Loads, rows: tuple[int, int], limit: str, words: str
) -> None:
    file = PartedFile(tmp_path / "data.csv", ROWS, bad=(3_001, 5_000))
    ended = load_of(file, file.part(*rows)).run(bad_rows="quarantine", max_bad_rows=limit)
    assert ended.returncode == 65
    assert re.match(words, str(ended.receipt["error"])), ended


def test_verify_compares_the_part(children: Children, file: PartedFile, load_of: Loads) -> None:
    part = file.part(*MIDDLE)
    load = load_of(file, part)
    done = load_here(load, part)
    arguments = ("verify", load.job_id, "--checkpoint", load.checkpoint, "-b", load.bootstrap, "-q")
    ended = children.cli(*arguments, "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["rows"], found["records"], found["bytes"]) == (0, 4_000, 4_000, done.bytes)
    assert (found["crc32c"], found["part"]) == (done.crc32c, load.wanted["part"])
    headline = children.cli(*arguments).stdout.splitlines()[0]
    where = f"{load.wanted['topic']}-0"
    assert headline == f"exact: rows 3,001 to 7,000 of {file.path} are in {where}, each once, in order"


def test_verify_finds_a_planted_difference(children: Children, file: PartedFile, load_of: Loads) -> None:
    """A row that is another in the file than in the topic, under the identity that the job knows."""
    part = file.part(*MIDDLE)
    load = load_of(file, part)
    load_here(load, part)
    stamp, at = file.path.stat(), file.rows[4_999].byte_offset
    text = bytearray(file.path.read_bytes())
    text[at : at + 4] = b"5009"  # row 5,000's id
    file.path.write_bytes(text)
    _set_time(file.path, stamp.st_mtime_ns)
    arguments = ("verify", load.job_id, "--checkpoint", load.checkpoint, "-b", load.bootstrap, "-q")
    ended = children.cli(*arguments, "--json")
    (difference,) = json.loads(ended.stdout)["differences"]
    assert (ended.returncode, difference["how"], difference["record"]) == (65, "changed", 2_000)
    headline = children.cli(*arguments).stdout.splitlines()[0]
    where = f"{load.wanted['topic']}-0"
    assert headline.startswith(f"DIFFERENT: {where} is not what {file.path} holds in the rows from 3,001 on (bytes ")


def test_a_pinned_file_that_changed_is_refused_before_anything_is_sent(file: PartedFile, load_of: Loads) -> None:
    part = file.part(*MIDDLE)
    load = load_of(file, part)
    with open_source(str(file.path)) as source:
        pinned = source.identity
    _set_time(file.path, 1_000_000_000)
    with pytest.raises(SourceChanged, match="changed since its load began"):
        load_here(load, part, pinned=pinned)
    assert load.read() == []
    load_here(load, part)  # pins what it found
    with pytest.raises(SourceChanged, match="changed since its load began"):
        load_here(load, part, pinned=pinned)


@pytest.mark.parametrize("form", ["gzip", "utf-16"])
def test_only_plain_text_has_parts(file: PartedFile, load_of: Loads, form: str) -> None:
    text = file.path.read_bytes()
    file.path.write_bytes(gzip.compress(text) if form == "gzip" else text.decode().encode("utf-16"))
    with pytest.raises(UsageError, match="only all of it can be loaded") as caught:
        load_here(load_of(file, file.part(0, 9)), file.part(0, 9))
    assert "uncompressed UTF-8" in caught.value.hint


def test_others_may_write_between_the_rows(file: PartedFile, load_of: Loads) -> None:
    """The last batch behind the checkpoint is proven against the part's rows, not against those of the file's head."""
    load = load_of(file, file.part(*MIDDLE))
    load.crash_at("batch_acked", 3)
    producer = Producer({"bootstrap.servers": load.bootstrap})
    producer.produce(load.wanted["topic"], b"{}", partition=0, headers={"csv.row": "0", "file.offset": "0"})
    assert producer.flush(30) == 0
    assert load.run().returncode == 0
    assert [row for row in load.read() if row.number] == file.rows[slice(*MIDDLE)]


def _set_time(path: Path, mtime_ns: int) -> None:
    os.utime(path, ns=(mtime_ns, mtime_ns))
