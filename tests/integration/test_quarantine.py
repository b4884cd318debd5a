"""Rows that cannot become records, set apart through the command line; shown, mended, and loaded as well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import topics
from tests.support.bad_rows import QUARANTINE, MixedLoad, in_topic, of_line, write_mixed_csv
from tests.support.cli_load import SMALL_BATCHES
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 8_000


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> MixedLoad:
    return MixedLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path, ROWS)


def bad_rows_of(load: MixedLoad, *options: str) -> bytes:
    """What the command shows, byte for byte."""
    command = (sys.executable, "-m", "csv2kafka", "bad-rows", "job", "--checkpoint", load.checkpoint, *options)
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def assert_values(load: MixedLoad, values: list[bytes]) -> None:
    load.values = values
    load.assert_exact()


def test_every_row_is_in_one_of_two_topics(load: MixedLoad) -> None:
    ended = load.run()
    assert ended.returncode == 0, ended
    load.assert_whole()
    receipt = ended.receipt
    assert receipt["rows"] == ROWS
    assert receipt["quarantine"] == {
        "place": load.bad_topic,
        "rows": len(load.bad),
        "reasons": Counter(bad.reason for bad in load.bad),
        "first_offset": 0,
        "next_offset": 1 + len(load.bad),
    }
    assert load.run().receipt["status"] == "already complete"
    load.assert_whole()


def test_a_file_takes_them_as_well(load: MixedLoad) -> None:
    ended = load.run("--bad-rows-to", str(load.bad_file))
    assert ended.returncode == 0, ended
    load.assert_whole_with_file()
    assert load.bad_topic not in topics(load.bootstrap)
    text = load.children.cli("run", load.source, load.topic, "-b", load.bootstrap, "--checkpoint", load.checkpoint,
                             "--job-id", "job", "-q").stdout  # fmt: skip
    assert f"bad rows    {len(load.bad):,} in {load.bad_file.as_uri()}" in text
    assert "is not valid UTF-8" in text


def test_a_job_that_failed_goes_on_with_them_set_apart(load: MixedLoad) -> None:
    load.options = ()
    load.run().assert_failed(65, "row 4 ", "has 1 field where the header has 2", "--bad-rows quarantine")
    load.options = QUARANTINE
    assert load.run().returncode == 0
    load.assert_whole()


def test_too_many(load: MixedLoad) -> None:
    load.run("--max-bad-rows", "1%").assert_failed(65, "rows are bad, more than --max-bad-rows 1% allows")
    load.run("--max-bad-rows", "500").assert_failed(65, "more than --max-bad-rows 500 allows", "csv2kafka bad-rows")
    found = in_topic(load.bootstrap, load.bad_topic, load.source)
    assert found == load.bad[: len(found)]
    assert 0 < len(found) <= 500
    assert load.assert_prefix() > 0
    assert load.run("--max-bad-rows", str(len(load.bad))).returncode == 0
    load.assert_whole()


def test_a_share_is_judged_at_the_end_of_a_short_file(load: MixedLoad) -> None:
    load.values, bad = write_mixed_csv(load.path, 30)
    load.run("--max-bad-rows", "1%").assert_failed(65, f"{len(bad)} of the first 30 rows")
    assert load.run("--max-bad-rows", "50%").returncode == 0
    load.assert_exact()


def test_a_job_keeps_its_place_for_them(load: MixedLoad) -> None:
    load.crash_at("position_moved", 3)
    load.run("--bad-rows-to", "another").assert_failed(78, f"in {load.topic}.bad until now, not in another")
    load.options = ()
    load.run().assert_failed(78, "began with --bad-rows quarantine", f"--bad-rows-to {load.topic}.bad")
    load.options = QUARANTINE
    assert load.run().returncode == 0
    load.assert_whole()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bad-rows-to", "a b"), "neither a topic nor a path"),
        (("--max-bad-rows", "some"), "a number of rows, or a share"),
        (("--bad-rows", "fail", "--max-bad-rows", "7"), "needs --bad-rows quarantine"),
        (("--bad-rows", "skip"), "'fail' or 'quarantine'"),
    ],
)
def test_options_that_make_no_sense(load: MixedLoad, options: tuple[str, ...], words: str) -> None:
    load.run(*options).assert_failed(2, words)
    load.run("--bad-rows-to", load.topic).assert_failed(2, "the topic of the good rows")


def test_a_row_too_large_for_the_dead_letter_topic_ends_the_job(
    load: MixedLoad, make_topic: Callable[..., str]
) -> None:
    place = make_topic(config={"max.message.bytes": "3000"})
    rows = [b"id,name", b"1,a", b"2", b"3,b", b"4,5," + bytes(range(32, 127)).replace(b'"', b"") * 60, b"6,c"]
    load.path.write_bytes(b"\n".join(rows) + b"\n")
    options = ("--compression", "none", "--bad-rows-to", place)
    load.run(*options).assert_failed(65, "row 4 ", "more than the dead-letter topic's max.message.bytes (3000)")
    assert [bad.text for bad in in_topic(load.bootstrap, place, load.source)] == [b"2"]
    assert_values(load, [b'{"id":"1","name":"a"}', b'{"id":"3","name":"b"}'])


def test_a_quote_never_closed_cannot_be_set_apart(load: MixedLoad) -> None:
    load.path.write_bytes(b'id,name\n1,a\n2,"b\n3,c\n')
    load.run().assert_failed(65, "row 2 ", "has a quote that is never closed")
    assert_values(load, [b'{"id":"1","name":"a"}'])


@pytest.mark.parametrize("to", ["topic", "file"])
def test_shown_mended_and_replayed(load: MixedLoad, to: str) -> None:
    options = () if to == "topic" else ("--bad-rows-to", str(load.bad_file))
    reach = ("-b", load.bootstrap) if to == "topic" else ()
    assert load.run(*options, "--headers", "provenance").returncode == 0
    shown = bad_rows_of(load, *reach)
    assert shown == b"id,name\n" + b"".join(bad.text + b"\n" for bad in load.bad)
    assert [of_line(line, load.source) for line in bad_rows_of(load, *reach, "--json").splitlines()] == load.bad

    mended = load.path.with_name("mended.csv")
    mended.write_bytes(shown)
    replay = ("replay", "job", str(mended), "-b", load.bootstrap, "--checkpoint", load.checkpoint, "--json")
    refused = load.children.cli(*replay)
    assert refused.returncode == 65
    assert f"row 1 of {mended}" in json.loads(refused.stdout)["error"]
    assert "nothing was sent" in json.loads(refused.stdout)["error"]

    mended.write_bytes(b"id,name\n" + b"".join(b"%d,mended\n" % bad.row for bad in load.bad))
    for status in ("complete", "already complete"):
        ended = load.children.cli(*replay)
        assert ended.returncode == 0, ended
        assert json.loads(ended.stdout)["status"] == status
    wanted = [json.dumps({"id": str(bad.row), "name": "mended"}, separators=(",", ":")) for bad in load.bad]
    assert_values(load, [*load.values, *(value.encode() for value in wanted)])


def test_what_cannot_be_replayed(load: MixedLoad) -> None:
    store = ("--checkpoint", load.checkpoint)
    mended = load.path.with_name("mended.csv")
    mended.write_text("name,id\n")
    replay = ("replay", "job", str(mended), "-b", load.bootstrap, *store, "--json")

    def refused(*command: str) -> str:
        ended = load.children.cli(*command)
        assert ended.returncode in (65, 78), ended
        return str(json.loads(ended.stdout)["error"]) if "--json" in command else ended.stderr

    assert "there is no job job" in refused(*replay)
    assert "there is no job job" in refused("bad-rows", "job", *store)
    load.crash_at("position_moved", 3)
    assert "is not complete" in refused(*replay)
    assert load.run().returncode == 0
    assert "the columns are name, id, the job's are id, name" in refused(*replay)
