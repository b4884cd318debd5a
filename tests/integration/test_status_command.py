"""`csv2kafka status` and `list` beside a real job: while it runs, when it failed, when it is done."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.fleet_load import FleetLoad
from tests.support.processes import Children
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]


@pytest.fixture
def load(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), tmp_path)


def status_of(load: CliLoad) -> dict[str, Any]:
    ended = load.children.cli("status", "job", "--checkpoint", load.checkpoint, "--json")
    assert ended.returncode == 0, ended
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_from_its_first_row_to_its_last(load: CliLoad) -> None:
    process = load.start("--compression", "none", "--max-bytes-per-s", "30000")  # some 50 s, of which a few are seen

    def has_begun() -> dict[str, Any] | None:
        ended = load.children.cli("status", "job", "--checkpoint", load.checkpoint, "--json")
        found: dict[str, Any] = json.loads(ended.stdout)
        return found if found.get("rows") and found["state"] == "running" else None

    running = until(has_begun, "rows are told of")
    assert f"process {process.pid} on " in running["held_by"]
    assert running["rows"] < len(load.values)
    assert 0 < running["progress"] < 1
    assert running["rows_per_s"] > 0
    assert running["eta_s"] > 0
    assert running["topic"] == f"{load.topic}-0"
    process.send_signal(signal.SIGTERM)
    assert load.wait().returncode == 143
    stopped = status_of(load)
    assert (stopped["state"], stopped["held_by"], stopped["eta_s"]) == ("stopped", None, None)
    assert load.run("--compression", "none").returncode == 0
    done = status_of(load)
    assert (done["state"], done["rows"], done["progress"]) == ("complete", len(load.values), 1.0)
    listed = load.children.cli("list", "--checkpoint", load.checkpoint)
    assert listed.stdout.splitlines()[1].split()[:4] == ["job", "complete", f"{len(load.values):,}", "100%"]


def test_how_it_failed_and_that_it_goes_on(load: CliLoad) -> None:
    text = load.path.read_text()
    load.path.write_text(text.replace("\n5000,", "\n5000"))
    load.run().assert_failed(65, "row 5001")
    failed = status_of(load)
    assert (failed["state"], failed["rows"]) == ("failed", 5000)
    assert failed["last_error"].startswith("row 5001 (bytes ")
    load.crash_at("batch_sent", 3, "--bad-rows", "quarantine")
    stopped = status_of(load)
    assert (stopped["state"], stopped["held_by"], stopped["last_error"]) == ("stopped", None, None)
    assert load.run("--bad-rows", "quarantine").returncode == 0
    assert status_of(load)["bad_rows"] == 1


def test_a_job_that_is_not_there(load: CliLoad) -> None:
    ended = load.children.cli("status", "other", "--checkpoint", load.checkpoint, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (78, "there is no job other")


def test_a_fleet_and_its_reset(
    broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path
) -> None:
    fleet = FleetLoad(children, broker.bootstrap, make_topic(partitions=2), tmp_path, partitions=2)
    for name, rows in (("a.csv", 500), ("b.csv", 700), ("c.csv", 900)):
        fleet.write(name, rows)
    assert fleet.run("--index", "1", workers=None).returncode == 0
    store = ("--checkpoint", fleet.checkpoint)

    found = json.loads(children.cli("status", "--fleet", "fleet", *store, "--json").stdout)
    assert (found["counts"], found["rows"]) == ({"waiting": 2, "complete": 1}, 700)
    assert found["bytes"] == found["files"][1]["bytes"] == (fleet.folder / "b.csv").stat().st_size
    assert json.loads(children.cli("status", "fleet/00001", *store, "--json").stdout)["state"] == "complete"
    assert children.cli("list", *store).stdout.splitlines()[1].split()[:2] == ["fleet/00001", "complete"]

    forgotten = children.cli("reset", "--fleet", "fleet", *store)
    assert (forgotten.returncode, forgotten.stdout[:41]) == (0, "fleet fleet and 1 job of it are forgotten")
    (fleet.folder / "a.csv").unlink()
    again = fleet.run("--index", "0", workers=None)  # another list, in which b.csv is the first
    assert (again.returncode, again.receipt["rows_this_run"]) == (0, 700)
    assert fleet.records() == 1_400
