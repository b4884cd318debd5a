"""A fleet whose workers are killed or stand still, whose driver or scheduler dies: every file once, in order."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from csv2kafka.devbroker import Broker
from tests.support.checkpoints import sqlite_items
from tests.support.cli_load import SMALL_BATCHES
from tests.support.dask_processes import DaskProcesses
from tests.support.fleet_load import FleetLoad, first_worker, workers_of
from tests.support.http_proxy import HttpProxy
from tests.support.job_stores import DynamoTable
from tests.support.processes import Children
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

PARTITIONS = 4
SLOW = ("--max-bytes-per-s", "1000000", "--compression", "none")  # the end is far away, whatever the machine
WORKER_TTL = "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    return make_topic(partitions=PARTITIONS, config=SMALL_BATCHES)


@pytest.fixture
def fleet(children: Children, broker: Broker, topic: str, tmp_path: Path) -> FleetLoad:
    return _with_files(FleetLoad(children, broker.bootstrap, topic, tmp_path, partitions=PARTITIONS))


@pytest.fixture
def far_fleet(
    children: Children, broker: Broker, topic: str, tmp_path: Path, dynamodb_local: str
) -> Iterator[FleetLoad]:
    """One whose checkpoints are in DynamoDB: a lease there runs out while its holder stands still."""
    with HttpProxy(dynamodb_local) as proxy:
        table = DynamoTable(dynamodb_local, proxy)
        fleet = FleetLoad(
            children, broker.bootstrap, topic, tmp_path, partitions=PARTITIONS, checkpoint=table.url, env=table.env
        )
        yield _with_files(fleet)


def _with_files(fleet: FleetLoad) -> FleetLoad:
    for number, rows in enumerate((100_000, 60_000, 40_000, 20_000, 500, 100, 3, 1)):
        fleet.write(f"{number}.csv", rows)
    return fleet


def test_workers_killed_again_and_again(fleet: FleetLoad) -> None:
    rng = random.Random(3)
    driver = fleet.start("--json", *SLOW)
    kills = 0
    while kills < 8 and driver.poll() is None:
        goal = fleet.end() + rng.randrange(2, 15_000)
        until(partial(_has_come_to, fleet, goal, driver), "rows are sent", patience_s=120)
        if workers := workers_of(driver):
            rng.choice(workers).kill()
            kills += 1
    ended = fleet.wait(driver)
    assert (ended.returncode, ended.receipt["status"]) == (0, "complete"), ended
    assert kills == 8
    fleet.assert_exact()


@pytest.mark.slow
def test_a_worker_that_stands_still(far_fleet: FleetLoad) -> None:
    """Taken for dead: its nanny starts another one, and its file goes on there."""
    driver = far_fleet.start("--json", *SLOW, env={WORKER_TTL: "5s"})
    until(lambda: far_fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    paused = first_worker(driver)
    paused.suspend()
    until(lambda: not _is_alive(paused), "it is taken for dead", patience_s=50)  # Dask's own default is minutes
    ended = far_fleet.wait(driver)
    assert (ended.returncode, ended.receipt["status"]) == (0, "complete"), ended
    far_fleet.assert_exact()


@pytest.mark.slow
def test_a_worker_that_stands_still_and_wakes_up_later(far_fleet: FleetLoad, tmp_path: Path) -> None:
    """Nobody ends it, another worker takes its file over: when it wakes up, it may not write a row."""
    dask = DaskProcesses(far_fleet.children, tmp_path, env={**far_fleet.env, WORKER_TTL: "5s"})
    first, second = dask.start_worker("--no-nanny"), dask.start_worker("--no-nanny")
    driver = far_fleet.start("--json", "--scheduler", dask.address, *SLOW, workers=None)
    until(lambda: far_fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    first.send_signal(signal.SIGSTOP)
    ended = far_fleet.wait(driver)
    assert (ended.returncode, ended.receipt["status"]) == (0, "complete"), ended
    assert second.poll() is None
    far_fleet.assert_exact()
    first.send_signal(signal.SIGCONT)
    first.wait(timeout=60)  # told that it is no worker any more
    far_fleet.assert_exact()


@pytest.mark.slow
def test_the_driver_killed_and_the_same_command_again(fleet: FleetLoad) -> None:
    driver = fleet.start("--json", *SLOW)
    until(lambda: fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    workers = workers_of(driver)
    assert workers
    driver.kill()
    again = fleet.run()  # at once: what the dead driver's workers still hold is waited out
    assert (again.returncode, again.receipt["status"]) == (0, "complete"), again
    assert int(str(again.receipt["rows_this_run"])) < int(str(again.receipt["rows"]))
    fleet.assert_exact()
    until(lambda: not any(map(_is_alive, workers)), "the dead driver's workers end")


@pytest.mark.slow
@pytest.mark.parametrize("who", ["driver", "scheduler"])
def test_work_that_nobody_waits_for_any_more_comes_to_an_end(fleet: FleetLoad, tmp_path: Path, who: str) -> None:
    """Dask ends no thread: the loads of a dead driver, or of a dead scheduler, have to give their files free."""
    dask = DaskProcesses(fleet.children, tmp_path)
    worker = dask.start_worker("--no-nanny")
    slow = ("--max-bytes-per-s", "100000", "--compression", "none")  # the first file takes minutes
    driver = fleet.start("--json", "--scheduler", dask.address, *slow, workers=None)
    until(lambda: fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    (driver if who == "driver" else dask.scheduler).kill()
    until(partial(_is_free, fleet, 0), "the worker gives the file free", patience_s=20)
    if who == "scheduler":
        worker.wait(timeout=60)
    rows = _item(fleet, 0)["last_line"]
    assert 0 < int(rows) < 100_000


@pytest.mark.slow
def test_the_scheduler_killed_and_another_one_started(fleet: FleetLoad, tmp_path: Path) -> None:
    dask = DaskProcesses(fleet.children, tmp_path)
    orphans = [dask.start_worker() for _ in range(2)]
    driver = fleet.start("--json", "--scheduler", dask.address, *SLOW, workers=None)
    until(lambda: fleet.end() > 1_000, "rows are being loaded", patience_s=60)
    dask.scheduler.kill()
    fleet.wait(driver).assert_failed(75, "the Dask scheduler is gone", "Run the same command again")
    other = DaskProcesses(fleet.children, tmp_path)
    for _ in orphans:
        other.start_worker()
    again = fleet.run("--scheduler", other.address, workers=None)
    assert (again.returncode, again.receipt["status"]) == (0, "complete"), again
    fleet.assert_exact()


@pytest.mark.slow  # as long as it is waited for
def test_no_scheduler_where_one_should_be(fleet: FleetLoad) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        ended = fleet.run("--scheduler", address, workers=None)
    ended.assert_failed(75, f"no Dask scheduler answers at {address}", "`dask scheduler`")
    assert fleet.end() == 0


def _item(fleet: FleetLoad, index: int) -> Mapping[str, Any]:
    """A job of the fleet's as its checkpoint store has it."""
    return sqlite_items(Path(fleet.checkpoint.removeprefix("sqlite:///")))[f"fleet/{index:05}"]


def _is_free(fleet: FleetLoad, index: int) -> bool:
    return "lease_owner" not in _item(fleet, index)


def _has_come_to(fleet: FleetLoad, goal: int, driver: subprocess.Popen[str]) -> bool:
    return fleet.end() >= goal or driver.poll() is not None


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
