"""`csv2kafka fleet` on this machine's Dask: every file whole, once, in order, wherever it goes and whichever fails."""

from __future__ import annotations

import csv
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from crc32c import crc32c

from csv2kafka.devbroker import Broker
from tests.support.cli_load import ISOLATIONS, SMALL_BATCHES
from tests.support.fleet_load import FleetLoad, files_of
from tests.support.oracle import iter_messages
from tests.support.processes import Children
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

PARTITIONS = 3
SIZES = {"a.csv": 900, "b.csv": 2_500, "c.csv": 1, "d.csv": 1_200, "empty.csv": 0}


@pytest.fixture
def fleet(children: Children, broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> FleetLoad:
    """An empty folder, and a topic of three partitions for its files."""
    topic = make_topic(partitions=PARTITIONS, config=SMALL_BATCHES)
    return FleetLoad(children, broker.bootstrap, topic, tmp_path, partitions=PARTITIONS)


def test_a_folder_and_its_receipt(fleet: FleetLoad) -> None:
    paths = {name: fleet.write(name, rows) for name, rows in SIZES.items()}
    (fleet.folder / "_SUCCESS").touch()
    ended = fleet.run()
    assert ended.returncode == 0, ended
    fleet.assert_exact()
    said = ended.receipt
    told = {name: said[name] for name in ("fleet", "source", "topic", "placement", "status", "failures", "exit_code")}
    assert told == {
        "fleet": "fleet",
        "source": str(fleet.folder),
        "topic": fleet.topic,
        "placement": "round-robin",
        "status": "complete",
        "failures": 0,
        "exit_code": 0,
    }
    assert said["rows"] == said["rows_this_run"] == sum(SIZES.values())
    assert said["bytes"] == sum(path.stat().st_size for path in paths.values())
    assert float(str(said["duration_s"])) > 0
    found = fleet.runs()
    for number, (file, (name, rows)) in enumerate(zip(files_of(ended), SIZES.items(), strict=True)):
        text = paths[name].read_bytes()
        assert (file["index"], file["job_id"], file["source"]) == (number, f"fleet/{number:05}", str(paths[name]))
        assert (file["partition"], file["status"], file["rows"]) == (number % PARTITIONS, "complete", rows)
        assert (file["size_bytes"], file["crc32c"]) == (len(text), f"{crc32c(text):08x}")
        assert (file["attempts"], file["error"], file["exit_code"]) == (1, None, 0)
        assert file["worker"].startswith("tcp://127.0.0.1:")
        if rows:
            assert name in [run[0] for run in found[file["partition"]]]
            values = _values_between(fleet, file["partition"], file["first_offset"], file["next_offset"])
            assert values == fleet.values[name]


def test_a_rerun_says_complete_and_sends_nothing(fleet: FleetLoad) -> None:
    for name in ("a.csv", "b.csv"):
        fleet.write(name, SIZES[name])
    first = fleet.run()
    assert first.returncode == 0, first
    end = fleet.end()
    again = fleet.run()
    assert (again.returncode, again.receipt["status"], again.receipt["rows_this_run"]) == (0, "complete", 0)
    kept = ("rows", "crc32c", "first_offset", "next_offset")
    assert [[file[name] for name in kept] for file in files_of(again)] == [
        [file[name] for name in kept] for file in files_of(first)
    ]
    assert fleet.end() == end
    # A file that has come since is another fleet's, and is named.
    (fleet.folder / "late.csv").write_text("a,b\n1,2\n")
    late = fleet.run()
    assert late.returncode == 0
    assert f"(the first: {fleet.folder / 'late.csv'})" in late.stderr
    assert fleet.end() == end


def test_all_into_one_partition_in_the_manifests_order(fleet: FleetLoad) -> None:
    sizes = {"a.csv": 10, "b.csv": 2_500, "c.csv": 400, "d.csv": 1_200}  # the largest would be first elsewhere
    for name, rows in sizes.items():
        fleet.write(name, rows)
    ended = fleet.run("--placement", "single")
    assert ended.returncode == 0, ended
    for isolation in ISOLATIONS:
        assert fleet.runs(isolation)[0] == list(fleet.values.items())
    assert [fleet.runs()[number] for number in (1, 2)] == [[], []]


@pytest.mark.slow
def test_placement_by_hash_hangs_on_the_name_alone(fleet: FleetLoad) -> None:
    names = [f"{number}.csv" for number in range(6)]
    for name in names:
        fleet.write(name, 50)
    shown = json.loads(fleet.run("--placement", "hash", "--dry-run").stdout)
    places = {entry["source"]["uri"]: entry["partition"] for entry in shown["entries"]}
    (fleet.folder / names[0]).unlink()
    del fleet.values[names[0]]
    ended = fleet.run("--placement", "hash")
    assert ended.returncode == 0, ended
    assert {file["source"]: file["partition"] for file in files_of(ended)} == {
        uri: partition for uri, partition in places.items() if not uri.endswith(names[0])
    }
    found = {name: number for number, runs in fleet.runs().items() for name, _ in runs}
    assert found == {name: places[str(fleet.folder / name)] for name in names[1:]}
    fleet.assert_exact()


def test_one_file_in_parts(fleet: FleetLoad) -> None:
    path = fleet.folder / "data.csv"
    rows = _write_tricky(path)
    ended = fleet.run("--headers", "provenance", "--split", str(PARTITIONS))
    assert ended.returncode == 0, ended
    assert len(files_of(ended)) == PARTITIONS
    assert (ended.receipt["rows"], ended.receipt["status"]) == (len(rows), "complete")
    found = []
    for partition in range(PARTITIONS):
        part = [
            (int(dict(message.headers() or ())["csv.row"] or b""), message.value())
            for messages in iter_messages(fleet.bootstrap, fleet.topic, partition)
            for message in messages
        ]
        assert part
        assert part == sorted(part)
        found += part
    assert sorted(found) == list(enumerate(rows, 1))
    again = fleet.run("--headers", "provenance", "--split", str(PARTITIONS))
    assert (again.returncode, again.receipt["rows_this_run"]) == (0, 0)


def test_a_poisoned_file_stops_no_other(fleet: FleetLoad) -> None:
    for name, rows in SIZES.items():
        fleet.write(name, rows)
    poisoned = fleet.write("bad.csv", 500)
    poisoned.write_text(poisoned.read_text().replace("bad.csv,200,", "bad.csv,200,one too many,"))
    ended = fleet.run()
    assert (ended.returncode, ended.receipt["status"], ended.receipt["failures"]) == (65, "failed", 1)
    states = {Path(file["source"]).name: file["status"] for file in files_of(ended)}
    assert states == dict.fromkeys(SIZES, "complete") | {"bad.csv": "failed"}
    (failed,) = [file for file in files_of(ended) if file["status"] == "failed"]
    records = _values_between(fleet, failed["partition"], failed["first_offset"], failed["next_offset"])
    assert (failed["exit_code"], failed["rows"], records) == (65, 200, fleet.values["bad.csv"][:200])
    assert "has 4 fields" in failed["error"]
    fleet.assert_exact("bad.csv")
    words = fleet.wait(fleet.start())  # tried again
    assert words.returncode == 65
    assert words.stdout.startswith("1 of 6 files failed; ")
    assert "5 of 6 files complete, 1 failed" in words.stdout
    assert f"  {failed['job_id']}  {poisoned}\n    row " in words.stdout


@pytest.mark.slow
def test_behind_a_poisoned_file_of_one_partition_nothing_is_loaded(fleet: FleetLoad) -> None:
    fleet.write("a.csv", 100)
    (fleet.folder / "b.csv").write_text("file,row,text\nb.csv,0,x\nb.csv,1\n")
    fleet.values["b.csv"] = [b'{"file":"b.csv","row":"0","text":"x"}']
    fleet.write("c.csv", 100)
    ended = fleet.run("--placement", "single")
    assert ended.returncode == 65, ended
    assert [file["status"] for file in files_of(ended)] == ["complete", "failed", "held back"]
    assert "fleet/00001, which comes before it" in files_of(ended)[2]["error"]
    fleet.assert_exact("c.csv")
    assert [name for name, _ in fleet.runs()[0]] == ["a.csv", "b.csv"]


@pytest.mark.slow
def test_a_file_that_changed_since_it_was_frozen(fleet: FleetLoad) -> None:
    for name in ("a.csv", "b.csv", "d.csv"):
        fleet.write(name, SIZES[name])
    assert fleet.run("--freeze").returncode == 0
    changed = fleet.write("b.csv", 30)
    ended = fleet.run()
    assert (ended.returncode, ended.receipt["status"]) == (66, "failed")
    assert [file["status"] for file in files_of(ended)] == ["complete", "failed", "complete"]
    assert str(changed) in files_of(ended)[1]["error"]
    assert "changed" in files_of(ended)[1]["error"]
    fleet.assert_exact("b.csv")
    assert "b.csv" not in {name for runs in fleet.runs().values() for name, _ in runs}


def test_told_to_stop_it_comes_to_a_checkpoint(fleet: FleetLoad) -> None:
    for name in ("a.csv", "b.csv", "d.csv"):
        fleet.write(name, 100_000)
    slow = ("--max-bytes-per-s", "1000000", "--compression", "none")  # the end is far away
    driver = fleet.start("--json", *slow)
    until(lambda: fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    driver.send_signal(signal.SIGTERM)
    ended = fleet.wait(driver, timeout_s=30)
    assert ended.returncode == 128 + signal.SIGTERM, ended
    said = ended.receipt
    assert said["status"] == "stopped"
    assert {file["status"] for file in files_of(ended)} <= {"stopped", "waiting"}
    assert said["rows"] == fleet.records() > 1_000
    again = fleet.run()
    assert (again.returncode, again.receipt["status"]) == (0, "complete")
    assert int(str(again.receipt["rows_this_run"])) == 300_000 - int(str(said["rows"]))
    fleet.assert_exact()


@pytest.mark.slow
def test_each_file_by_its_index_without_dask(fleet: FleetLoad, tmp_path: Path) -> None:
    for name, rows in SIZES.items():
        fleet.write(name, rows)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("dask", "distributed"):
        (blocked / f"{name}.py").write_text(f"raise ModuleNotFoundError('not here', name='{name}')\n")
    env = {"PYTHONPATH": str(blocked)}
    refused = fleet.run(workers=None, env=env)
    assert refused.returncode == 78, refused
    assert "pip install 'csv2kafka[fleet]'" in str(refused.receipt["hint"])
    running = [
        fleet.start("--json", workers=None, env={**env, "AWS_BATCH_JOB_ARRAY_INDEX": str(number)})
        for number in range(len(SIZES))
    ]
    for process, (name, rows) in zip(running, SIZES.items(), strict=True):
        ended = fleet.wait(process)
        assert (ended.returncode, ended.receipt["rows"]) == (0, rows), (name, ended)
    beyond = fleet.run("--index", str(len(SIZES)), workers=None, env=env)
    assert beyond.returncode == 2
    assert f"has {len(SIZES)} files" in str(beyond.receipt["error"])
    whole = fleet.run()  # the same jobs
    assert (whole.returncode, whole.receipt["status"], whole.receipt["rows_this_run"]) == (0, "complete", 0)
    fleet.assert_exact()


def _values_between(fleet: FleetLoad, partition: int, first_offset: int, next_offset: int) -> list[bytes]:
    return [
        message.value() or b""
        for messages in iter_messages(fleet.bootstrap, fleet.topic, partition, start_offset=first_offset)
        for message in messages
        if (message.offset() or 0) < next_offset
    ]


def _write_tricky(path: Path) -> list[bytes]:
    """A file of stray quotes and quoted newlines, one of which reaches over what would be a cut; its records."""
    rng = random.Random(5)
    texts = ['say "hi', '"', "plain", "a\nb", 'x\n1,"fake",row\n', "", "ends,", '""']
    rows = [[str(number), rng.choice(texts), rng.choice(texts)] for number in range(6_000)]
    rows[3_900][1] = '9,"fake",row\n' * 1_500
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("id,one,two\n")
        for row in rows:
            file.write(",".join(_field(rng, text) for text in row) + "\n")
    cut = path.stat().st_size * 2 // PARTITIONS
    head = path.read_bytes()[:cut]
    assert head.count(b'9,""fake"",row\n') not in (0, 1_500)  # the cut lies within that field
    with path.open(newline="", encoding="utf-8") as file:
        return [json.dumps(row, separators=(",", ":")).encode() for row in csv.DictReader(file)]


def _field(rng: random.Random, text: str) -> str:
    """Quoted where it must be, sometimes where it need not be; a quote within plain text stands for itself."""
    if any(special in text for special in ",\n") or text.startswith('"') or rng.random() < 0.2:
        return '"' + text.replace('"', '""') + '"'
    return text
