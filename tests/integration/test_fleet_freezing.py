"""What `csv2kafka fleet` freezes, shows and refuses, asked of a real cluster: before a row is sent."""

from __future__ import annotations

import gzip
import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from csv2kafka.checkpoints import CheckpointStore, open_store
from csv2kafka.cli import app
from csv2kafka.devbroker import Broker
from csv2kafka.fleet import freezing, listing
from tests.support.admin import topics
from tests.support.environment import clear_options
from tests.support.oracle import end_offset
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

PARTITIONS = 3


@pytest.fixture(autouse=True)
def as_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    clear_options(monkeypatch)
    monkeypatch.setenv("CSV2KAFKA_LOG_FORMAT", "text")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("csv2kafka").setLevel(logging.NOTSET)


class Fleet:
    """Of a folder of four files; `call` runs the command in this process."""

    def __init__(self, broker: Broker, topic: str, folder: Path) -> None:
        self.bootstrap, self.topic = broker.bootstrap, topic
        self.checkpoint = f"sqlite:///{folder / 'c.db'}"
        self.folder = folder / "in"
        self.folder.mkdir()
        for number in range(4):
            self.write(f"{number}.csv", rows=number + 1)

    def write(self, name: str, rows: int) -> None:
        (self.folder / name).write_text("id,name\n" + "".join(f"{row},{name}\n" for row in range(rows)))

    def arguments(self, *options: str, source: str | Path | None = None, topic: str | None = None) -> tuple[str, ...]:
        given = ("fleet", str(source or self.folder), topic or self.topic, "-b", self.bootstrap, "--name", "nightly")
        return (*given, "--checkpoint", self.checkpoint, *options)

    def call(self, *options: str, source: str | Path | None = None, topic: str | None = None) -> Result:
        arguments = self.arguments(*options, source=source, topic=topic)
        return CliRunner().invoke(app, arguments, prog_name="csv2kafka")

    @property
    def store(self) -> CheckpointStore:
        return open_store(self.checkpoint, "-")

    def sent(self) -> int:
        return sum(end_offset(self.bootstrap, self.topic, partition) for partition in range(PARTITIONS))


@pytest.fixture
def fleet(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> Fleet:
    return Fleet(broker, make_topic(partitions=PARTITIONS), tmp_path)


def test_a_dry_run_shows_all_and_keeps_nothing(fleet: Fleet) -> None:
    result = fleet.call("--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"4 files, 112 B, {fleet.folder} -> {fleet.topic} (nothing was kept or sent)"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["FILE", "PARTITION"],
        *(["0", "0"], ["1", "1"], ["2", "2"], ["3", "0"]),
    ]
    assert (fleet.store.kept("nightly"), fleet.store.look(), fleet.sent()) == (None, [], 0)


def test_freezing_keeps_what_is_shown_and_sends_nothing(fleet: Fleet) -> None:
    shown = json.loads(fleet.call("--dry-run", "--json").stdout)
    result = fleet.call("--freeze", "--json")
    assert result.exit_code == 0, result.output
    kept = freezing.kept_manifest(fleet.store, "nightly")
    assert json.loads(result.stdout)["entries"] == shown["entries"]
    assert [entry["source"]["etag"] for entry in shown["entries"]] == [entry.source.etag for entry in kept.entries]
    assert (kept.placement, kept.topic, kept.source) == ("round-robin", fleet.topic, str(fleet.folder))
    assert (fleet.store.look(), fleet.sent()) == ([], 0)
    text = fleet.call("--freeze").stdout
    assert text.splitlines()[0].endswith("(frozen as nightly)")


def test_what_is_frozen_stays_whatever_becomes_of_the_folder(fleet: Fleet) -> None:
    fleet.call("--freeze")
    before = fleet.store.kept("nightly")
    fleet.write("4.csv", rows=9)
    fleet.write("5.csv", rows=9)
    (fleet.folder / "0.csv").unlink()
    result = fleet.call("--freeze", "--json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["entries"]) == 4
    assert fleet.store.kept("nightly") == before
    assert f"WARNING csv2kafka: 2 files at {fleet.folder} are not in this fleet, frozen at " in result.stderr
    assert f"(the first: {fleet.folder}/4.csv): load them under another --name\n" in result.stderr


def test_a_listed_file_that_is_gone_does_not_stand_in_the_others_way(fleet: Fleet) -> None:
    listed = fleet.folder / "files.txt"
    listed.write_text("0.csv\n1.csv\n")
    assert fleet.call("--freeze", source=listed).exit_code == 0
    (fleet.folder / "0.csv").unlink()
    result = fleet.call("--freeze", source=listed)
    assert result.exit_code == 0
    assert "WARNING csv2kafka: whether files have come since cannot be said: " in result.stderr


def test_something_else_under_the_same_name_is_refused(fleet: Fleet) -> None:
    fleet.call("--freeze")
    for how in ("--freeze", "--dry-run", "--index=0"):
        result = fleet.call(how, "--placement", "single", source=f"{fleet.folder}/*.csv")
        assert (result.exit_code, result.stdout) == (78, "")
        assert result.stderr == (
            f"error: fleet nightly was begun with something else (SOURCE: '{fleet.folder}' then, "
            f"'{fleet.folder}/*.csv' now; --placement: 'round-robin' then, 'single' now)\n"
            "hint: Give what it began with, or begin another fleet with --name NEW.\n"
        )


def test_whoever_is_overtaken_takes_the_others_list(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    find = listing.find

    def find_late(*arguments: Any, **options: Any) -> Any:
        found = find(*arguments, **options)
        monkeypatch.setattr(freezing, "find", find)
        fleet.write("4.csv", rows=9)
        assert fleet.call("--freeze").exit_code == 0
        return found

    monkeypatch.setattr(freezing, "find", find_late)
    result = fleet.call("--freeze", "--json")
    assert len(json.loads(result.stdout)["entries"]) == 5
    assert len(freezing.kept_manifest(fleet.store, "nightly").entries) == 5


def test_a_topic_that_is_not_there(fleet: Fleet) -> None:
    missing = f"t-{uuid.uuid4().hex[:12]}"
    for how in ("--dry-run", "--freeze"):
        result = fleet.call(how, topic=missing)
        assert (result.exit_code, result.stdout) == (78, "")
        assert result.stderr == (
            f"error: topic {missing} does not exist, and the files are to be spread over its partitions\n"
            f"hint: Create it: kafka-topics.sh --create --topic {missing} --partitions N --replication-factor 3 "
            "--config min.insync.replicas=2. Or load all into one: --placement single.\n"
        )
    assert missing not in topics(fleet.bootstrap)
    assert fleet.store.kept("nightly") is None


def test_for_one_partition_the_topic_is_made_but_not_by_a_dry_run(fleet: Fleet) -> None:
    missing = f"t-{uuid.uuid4().hex[:12]}"
    options = ("--placement", "single", "--bad-rows", "quarantine")
    result = fleet.call("--dry-run", *options, topic=missing)
    assert result.exit_code == 0, result.output
    assert {missing, f"{missing}.bad"} & topics(fleet.bootstrap).keys() == set()
    result = fleet.call("--freeze", *options, topic=missing)
    assert result.exit_code == 0, result.output
    assert {missing, f"{missing}.bad"} <= topics(fleet.bootstrap).keys()


def test_an_index_that_there_is_not(fleet: Fleet) -> None:
    result = fleet.call("--index", "4")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        "error: --index 4: fleet nightly has 4 files, counted from 0\n"
        "hint: Make the array as large as the list (csv2kafka fleet ... --freeze says how large).\n"
    )
    assert fleet.store.look() == []


class TestSplit:
    @pytest.mark.parametrize(
        ("options", "name", "message", "hint"),
        [
            (("--split", "2"), "", "--split cuts one file, and {} means 4", "Name one of them."),
            (
                ("--split", "4"),
                "0.csv",
                "--split 4 wants as many partitions, and topic {topic} has 3",
                "Take a smaller number, or give the topic more partitions",
            ),
            (
                ("--split", "2", "--placement", "hash"),
                "0.csv",
                "--split loads each part into a partition of its own",
                "Leave --placement out.",
            ),
        ],
    )
    def test_what_cannot_be_cut(
        self, fleet: Fleet, options: tuple[str, ...], name: str, message: str, hint: str
    ) -> None:
        source = fleet.folder / name
        result = fleet.call("--dry-run", *options, source=source)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {message.format(source, topic=fleet.topic)}\nhint: {hint}" in result.stderr

    @pytest.mark.parametrize(
        ("name", "options", "what"), [("a.csv.gz", (), "gzip"), ("b.csv", ("--encoding", "latin-1"), "latin")]
    )
    def test_only_plain_utf8_is_cut(
        self, fleet: Fleet, children: Children, name: str, options: tuple[str, ...], what: str
    ) -> None:
        source = fleet.folder / name
        source.write_bytes(gzip.compress(b"id,name\n1,a\n") if name.endswith(".gz") else b"id,name\n1,\xe4\n")
        ended = children.cli(*fleet.arguments("--dry-run", "--split", "2", "--local", "1", *options, source=source))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"error: {source} cannot be split: it is {what}" in ended.stderr
        assert "hint: Only plain UTF-8 can be read from its middle: unpack it, or load it as one job" in ended.stderr

    def test_the_parts_of_a_dry_run(self, fleet: Fleet, children: Children) -> None:
        source = fleet.folder / "big.csv"
        fleet.write("big.csv", rows=5_000)
        ended = children.cli(*fleet.arguments("--dry-run", "--json", "--split", "3", "--local", "1", source=source))
        assert ended.returncode == 0, ended
        entries = json.loads(ended.stdout)["entries"]
        parts: list[Mapping[str, int]] = [entry["part"] for entry in entries]
        text = source.read_bytes()
        assert [entry["partition"] for entry in entries] == [0, 1, 2]
        assert [part["start_byte"] for part in parts[1:]] == [part["end_byte"] for part in parts[:-1]]
        assert (parts[0]["start_byte"], parts[-1]["end_byte"]) == (len(b"id,name\n"), len(text))
        for part in parts:
            assert text[part["start_byte"] :].startswith(b"%d,big.csv\n" % part["first_row"])
        assert fleet.store.kept("nightly") is None

    def test_dask_is_not_installed(self, fleet: Fleet, children: Children) -> None:
        no_dask = "import sys; sys.modules.update(dask=None, distributed=None); from csv2kafka.cli import main; main()"
        arguments = fleet.arguments("--freeze", "--split", "2", source=fleet.folder / "3.csv")
        process = children.start([sys.executable, "-c", no_dask, *arguments])
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 78
        assert "error: a fleet runs on Dask, which is not installed (dask)\n" in stderr
