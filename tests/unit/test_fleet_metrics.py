"""A fleet as page, Prometheus and the terminal show it: what workers tell, added up, and what is shown of each file."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from csv2kafka.fleet.manifest import Entry, Manifest
from csv2kafka.fleet.overview import STATES, Overview
from csv2kafka.fleet.work import TOLD, Failure, Outcome
from csv2kafka.metrics.monitor import Monitor
from csv2kafka.metrics.progress import facts
from csv2kafka.metrics.prometheus import Exposition
from csv2kafka.model import Checkpoint, JobStatus, Part, SourceIdentity
from tests.unit.test_prometheus import exposition, figures

DONE = Checkpoint("orders/00000", 10, 10, JobStatus.COMPLETED)
DASHBOARD = "http://scheduler:8787/status"
FILES = "csv2kafka_fleet_file_rows", "csv2kafka_fleet_file_progress_ratio"


def manifest(count: int, *, part: Part | None = None) -> Manifest:
    sources = (SourceIdentity(f"s3://bucket/2026/{number}.csv", 1_000, "etag") for number in range(count))
    entries = tuple(Entry(number, source, number, part) for number, source in enumerate(sources))
    return Manifest("orders", "s3://bucket/2026/", "orders", "round-robin", "2026-01-01T00:00:00+00:00", entries)


@pytest.fixture
def fleet() -> Manifest:
    return manifest(6)


@pytest.fixture
def overview(fleet: Manifest) -> Overview:
    """The first is complete, the second under way, the third just handed out, the fourth failed, the others wait."""
    found = Overview(fleet, {0: DONE})
    for entry in fleet.entries[1:4]:
        found.handed_out(entry)
    found.told(telling(1, rows=7, bytes_done=250))
    found.ended(Outcome(3, "tcp://10.0.0.9:1", failure=Failure("bad_data", "row 1 is none", "mend it", 65)))
    return found


def telling(index: int, **told: int) -> dict[str, Any]:
    about = {"index": index, "worker": "tcp://10.0.0.7:40001", "ack_latencies_s": []}
    return {**dict.fromkeys(TOLD, 0), "bytes_total": 1_000, **told, **about}


def of_files(shown: Exposition) -> dict[str, float]:
    return {name: value for name, value in figures(shown).items() if name.startswith(FILES)}


def test_prometheus_counts_files_by_state(overview: Overview) -> None:
    shown = exposition()
    shown.attach(lambda: overview.details(DASHBOARD))
    counts = {state: figures(shown)[f"csv2kafka_fleet_files{{state={state}}}"] for state in STATES}
    assert counts == {"waiting": 2, "running": 2, "stopped": 0, "complete": 1, "failed": 1, "held back": 0}


def test_prometheus_has_series_of_the_files_under_way_alone(fleet: Manifest, overview: Overview) -> None:
    shown = exposition()
    shown.attach(lambda: overview.details(DASHBOARD))
    second = "{file=s3://bucket/2026/1.csv,worker=tcp://10.0.0.7:40001}"
    third = "{file=s3://bucket/2026/2.csv,worker=}"
    assert of_files(shown) == {
        f"csv2kafka_fleet_file_rows{second}": 7,
        f"csv2kafka_fleet_file_progress_ratio{second}": 0.25,
        f"csv2kafka_fleet_file_rows{third}": 0,
        f"csv2kafka_fleet_file_progress_ratio{third}": 0,
    }
    for entry in fleet.entries[1:3]:
        overview.held_back(entry, "the one before it failed")
    assert of_files(shown) == {}


def test_a_file_whose_name_is_no_text(overview: Overview) -> None:
    shown = exposition()
    shown.attach(
        lambda: {"counts": {}, "running": [{"file": "\udcff", "worker": None, "rows": 1, "progress_ratio": 0}]}
    )
    assert of_files(shown)["csv2kafka_fleet_file_rows{file=\\udcff,worker=}"] == 1


def test_without_a_fleet_there_is_nothing_of_one() -> None:
    assert [name for name in figures(exposition()) if "fleet" in name] == []


def test_the_status_names_what_failed_and_prometheus_hears_of_it_too(overview: Overview) -> None:
    monitor = Monitor("127.0.0.1", 0, job_id="orders", source="s3://bucket/2026/", topic="orders")
    monitor.attach(lambda: overview.details(DASHBOARD))
    place = urlsplit(monitor.url)
    with closing(http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)) as connection:
        connection.request("GET", "/status.json")
        fleet = json.loads(connection.getresponse().read())["fleet"]
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    assert fleet["failed"] == [{"file": "s3://bucket/2026/3.csv", "error": "row 1 is none"}]
    assert [found["worker"] for found in fleet["running"]] == ["tcp://10.0.0.7:40001", None]
    assert (fleet["noun"], fleet["dashboard"]) == ("file", DASHBOARD)
    assert 'csv2kafka_fleet_files{state="failed"} 1.0' in metrics


def test_many_that_failed_are_counted_not_named() -> None:
    fleet = manifest(50)
    overview = Overview(fleet, {})
    for entry in fleet.entries:
        overview.handed_out(entry)
        overview.ended(Outcome(entry.index, "", failure=Failure("source", "gone", "put it back", 66)))
    details = overview.details(DASHBOARD)
    assert (details["counts"]["failed"], len(details["failed"])) == (50, 20)


@pytest.mark.parametrize(
    ("part", "expected"), [(None, "1 of 6 files"), (Part(0, 0, 1_000), "1 of 6 parts")], ids=["files", "parts"]
)
def test_the_terminal_says_how_many_are_complete(part: Part | None, expected: str) -> None:
    sample = Overview(manifest(6, part=part), {0: DONE}).sample()
    assert next(iter(facts(sample, is_last=False).values())) == expected
