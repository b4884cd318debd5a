"""Compressed files and other encodings through the command line, from disk and S3: what csv and json make of them.

What stops such a load, and where the next run begins to read, is here too.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import boto3
import pytest

from csv2kafka import jobs
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.devbroker import Broker
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Sample
from tests.support.checkpoints import sqlite_items
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.compressed import COMPRESS, compressed
from tests.support.faulty_s3 import FaultyS3
from tests.support.loads import Load
from tests.support.oracle import read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

BAD_DATA, CONFLICT, USAGE = 65, 78, 2
NOTES = {
    "utf-8": "Grüße, 日本 😀",
    "latin-1": "Grüße, ÿ±",
    "cp1252": "Grüße, €Œž™",
    "utf-16": "Grüße, 日本 😀",
}


def write_text(path: Path, encoding: str, rows: int = 2_000) -> list[bytes]:
    """A CSV in an encoding; returns what csv and json make of it."""
    rng = random.Random(11)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "größe", "note"))
        for row in range(rows):
            note = rng.choice([NOTES[encoding], 'two\nlines, "quoted"', "plain"])
            writer.writerow((row, rng.getrandbits(64), note))
    with path.open(encoding=encoding, newline="") as file:
        return [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("codec", "suffix", "encoding"),
    [
        ("gzip", ".gz", "utf-8"),
        ("gzip", "", "utf-16"),
        ("zstd", ".zst", "latin-1"),
        ("bz2", ".bz2", "cp1252"),
        ("xz", ".xz", "utf-8"),
        ("lz4", ".lz4", "utf-16"),
        (None, "", "latin-1"),
        (None, "", "cp1252"),
        (None, "", "utf-16"),
    ],
)
def test_a_file_and_an_object_become_what_csv_and_json_make_of_them(
    broker: Broker,
    topic: str,
    children: Children,
    moto_server: str,
    tmp_path: Path,
    codec: str | None,
    suffix: str,
    encoding: str,
) -> None:
    plain, path = tmp_path / "plain.csv", tmp_path / f"data.csv{suffix}"
    expected = write_text(plain, encoding)
    body = plain.read_bytes()
    third = len(body) // 3
    path.write_bytes(compressed(codec, [body[:third], body[third:]]) if codec else body)
    told = () if encoding in ("utf-8", "utf-16") else ("--encoding", encoding)
    aws = {"AWS_ENDPOINT_URL": moto_server}
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3 = boto3.client("s3", endpoint_url=moto_server)
    s3.create_bucket(Bucket=bucket)
    s3.upload_file(str(path), bucket, path.name)

    loads = [
        children.start_cli("run", source, name, "-b", broker.bootstrap, *told, env=aws)
        for source, name in ((path, topic), (f"s3://{bucket}/{path.name}", f"{topic}-s3"))
    ]
    for load, name in zip(loads, (topic, f"{topic}-s3"), strict=True):
        _, stderr = load.communicate(timeout=120)
        assert load.returncode == 0, stderr
        assert read_topic(broker.bootstrap, name) == expected


Start = Callable[..., CliLoad]


@pytest.fixture
def start(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> Start:
    """`start(make)` is a load of the file that `make` makes of the plain one's bytes, in some fifty batches."""

    def start(make: Callable[[bytes], bytes], name: str = "data.csv.gz", **options: object) -> CliLoad:
        load = CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, **options)  # type: ignore[arg-type]
        (tmp_path / name).write_bytes(make(load.path.read_bytes()))
        load.source = str(tmp_path / name)
        return load

    return start


def in_members(codec: str, members: int) -> Callable[[bytes], bytes]:
    def make(body: bytes) -> bytes:
        size = -(-len(body) // members)
        return compressed(codec, [body[at : at + size] for at in range(0, len(body), size)])

    return make


@pytest.mark.parametrize("codec", COMPRESS)
def test_cut_short_it_stops_behind_an_exact_prefix(start: Start, codec: str) -> None:
    load = start(lambda body: in_members(codec, 40)(body)[:-7], f"data.{codec}")
    size_bytes = Path(load.source).stat().st_size

    for _ in range(2 if codec == "gzip" else 1):  # the next run says the same, and sends nothing twice
        load.run().assert_failed(BAD_DATA, f"cut short at byte {size_bytes}", codec, load.source, "complete copy")
        load.assert_prefix(at_least=1_000)


@pytest.mark.parametrize("codec", COMPRESS)
def test_damaged_it_stops_behind_an_exact_prefix(start: Start, codec: str) -> None:
    def damage(body: bytes) -> bytes:
        raw = bytearray(in_members(codec, 40)(body))
        at = raw.index(COMPRESS[codec](b"")[:3], len(raw) * 3 // 4)  # where a member begins
        raw[at : at + 8] = b"\xff" * 8
        return bytes(raw)

    load = start(damage, f"data.{codec}")
    load.run().assert_failed(BAD_DATA, "is damaged", codec, "from byte", "sound copy")
    load.assert_prefix(at_least=1_000)


@pytest.mark.parametrize(
    ("encoding", "name", "wrong"),
    [
        ("cp1252", "CP1252", b"\x81"),
        ("utf-16-le", "UTF-16-LE", b"\x00\xdc"),
        ("utf-16-be", "UTF-16-BE", b"\xdc\x00"),
        ("utf-8", "UTF-8", b"\xe9"),
    ],
)
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_what_is_no_text_in_its_encoding_is_a_bad_row(
    start: Start, codec: str | None, encoding: str, name: str, wrong: bytes
) -> None:
    def spoil(body: bytes) -> bytes:
        text = body.decode().encode(encoding)
        at = text.index("\n20000,".encode(encoding)) + len("\n20000,".encode(encoding))
        text = text[:at] + wrong + text[at:]
        return compressed(codec, [text]) if codec else text

    load = start(spoil, options=("--encoding", encoding))
    load.run().assert_failed(BAD_DATA, "row 20001", f"is not valid {name}", "--encoding")
    assert load.assert_prefix() == 20_000


def test_a_header_in_another_encoding_asks_for_the_option(children: Children, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("größe\n1\n".encode("latin-1"))
    ended = children.cli("run", path, "topic", "-b", "127.0.0.1:9")
    assert ended.returncode == BAD_DATA
    assert "--encoding latin-1" in ended.stderr


def test_an_unknown_encoding_is_told_the_known_ones(children: Children) -> None:
    ended = children.cli("run", "data.csv", "topic", "-b", "127.0.0.1:9", "--encoding", "ebcdic")
    assert ended.returncode == USAGE
    for name in ("--encoding", "ebcdic", "latin-1", "windows-1252", "utf-16"):
        assert name in ended.stderr


def test_a_job_goes_on_as_it_began(start: Start) -> None:
    """With other options the positions would be those of another text."""
    load = start(lambda body: body, "data.csv", options=("--checkpoint-interval", "1"))
    load.crash_at("batch_acked", 5)
    load.run("--encoding", "latin-1").assert_failed(CONFLICT, "encoding", "latin-1", "--job-id")
    load.assert_goes_on()


def test_a_resumed_load_reads_from_its_last_member_on(start: Start) -> None:
    load = start(in_members("gzip", 10), rows=200_000, options=("--checkpoint-interval", "1"))
    with FaultyS3() as s3:
        s3.serve(Path(load.source).read_bytes())
        load.source = "s3://bucket/data.csv.gz"
        load.env = {"AWS_ENDPOINT_URL": s3.url}
        load.crash_at("batch_acked", 100)
        saved = sqlite_items(Path(load.checkpoint.removeprefix("sqlite:///")))["job"]
        s3.ranges.clear()

        load.assert_goes_on()

    place = saved["restart_object_byte"]
    assert place > 0.4 * len(s3.body)
    assert saved["restart_text_byte"] <= saved["byte_offset"]
    starts = [first for first, _ in s3.ranges]
    # From the beginning: the first bytes, the first text, the header. All else from the member on.
    assert sorted(starts)[:3] == [0, 0, 0]
    assert min(sorted(starts)[3:]) >= place


def test_a_checkpoint_of_the_version_before_goes_on(start: Start) -> None:
    load = start(lambda body: body, "data.csv", options=("--checkpoint-interval", "1"))
    load.crash_at("batch_acked", 5)
    path = Path(load.checkpoint.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as db:
        for name in ("restart_text_byte", "restart_object_byte"):
            db.execute(f"ALTER TABLE checkpoints DROP COLUMN {name}")
        db.execute("PRAGMA user_version = 2")
        (shape,) = db.execute("SELECT record_shape FROM checkpoints").fetchone()
    assert json.loads(shape) == {"format": "json", "delimiter": ",", "quote": '"', "columns": ["id", "name"]}

    load.assert_goes_on()


class Samples(MetricsSink):
    def __init__(self) -> None:
        self.seen: list[Sample] = []

    def record(self, sample: Sample) -> None:
        self.seen.append(sample)

    def close(self) -> None:
        pass


@pytest.fixture
def loads(broker: Broker, topic: str, tmp_path: Path) -> Callable[[Path], Load]:
    return lambda path: Load(broker.bootstrap, path, topic, tmp_path / "checkpoints.db")


def test_progress_counts_the_objects_bytes(loads: Callable[[Path], Load], tmp_path: Path) -> None:
    write_text(tmp_path / "plain.csv", "utf-8")
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    load, samples = loads(path), Samples()

    receipt = load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(samples,)))

    last = samples.seen[-1]
    assert (last.bytes_done, last.bytes_total) == (path.stat().st_size, path.stat().st_size)
    assert last.eta_s in (None, 0)
    assert receipt.bytes == (tmp_path / "plain.csv").stat().st_size, "the receipt tells the text's"
    assert receipt.source.size_bytes == path.stat().st_size
