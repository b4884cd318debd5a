"""Whether the holder of a lease lives: how long a taker waits, and what one process can know of another."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from csv2kafka.checkpoints import lease
from csv2kafka.checkpoints.lease import Process, is_gone, this_process
from csv2kafka.errors import JobHeld
from tests.support.checkpoints import DynamoTable, Wire

JOB = "job"
ELSEWHERE = Process("fargate-task", "another boot", "pid:[1]", 1, 12)


@pytest.fixture(scope="module")
def module_table() -> Iterator[DynamoTable]:
    with mock_aws():
        yield DynamoTable()


@pytest.fixture
def table(module_table: DynamoTable) -> DynamoTable:
    module_table.clear()
    return module_table


@pytest.mark.parametrize("ttl_ms", [10_000, 20_000])
def test_a_lease_elsewhere_is_taken_only_when_it_stood_still_for_its_time(table: DynamoTable, ttl_ms: int) -> None:
    table.put_lease(JOB, ELSEWHERE, ttl_ms)
    manager, time = table.timed_store(JOB)

    checkpoint = manager.acquire(JOB)

    assert checkpoint is not None
    assert checkpoint.last_line == 7
    assert time.waited_s == pytest.approx(ttl_ms / 1000)


def test_a_sign_of_life_at_the_last_moment_counts(table: DynamoTable) -> None:
    table.put_lease(JOB, ELSEWHERE)

    def renewed_late() -> None:
        if time.waited_s > 9:
            table.put_lease(JOB, ELSEWHERE)

    manager, time = table.timed_store(JOB, while_waiting=renewed_late)

    with pytest.raises(JobHeld, match="process 1 on fargate-task, since 20"):
        manager.acquire(JOB)


def test_a_lease_given_up_meanwhile_is_taken_without_more_waiting(table: DynamoTable) -> None:
    holder = table.store(JOB)
    holder.acquire(JOB)
    manager, time = table.timed_store(JOB, while_waiting=holder.release)

    manager.acquire(JOB)

    assert time.waited_s == 1


def test_the_loser_of_two_takers_is_told(table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.put_lease(JOB, ELSEWHERE)
    loser = table.store(JOB)
    wire = Wire(loser, monkeypatch)

    def another_is_faster(request: dict[str, Any]) -> object:
        table.store(JOB).acquire(JOB)
        return loser.table.put_item(**request)

    wire.during_next_put(another_is_faster)

    with pytest.raises(JobHeld, match=f"process {os.getpid()} on"):
        loser.acquire(JOB)


def test_a_plain_write_in_the_moment_of_taking_is_not_lost(table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.store(JOB).update_checkpoint(5, 5)
    manager = table.store(JOB)
    wire = Wire(manager, monkeypatch)

    def written_before_us(request: dict[str, Any]) -> object:
        table.store(JOB).update_checkpoint(6, 6)
        return manager.table.put_item(**request)

    wire.during_next_put(written_before_us)

    checkpoint = manager.acquire(JOB)
    assert checkpoint is not None
    assert checkpoint.last_line == 6
    manager.renew()
    assert manager.get_last_processed_line() == 6


def process_of(pid: int) -> Process:
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return replace(this_process(), pid=pid, pid_start=int(start))


@contextmanager
def unreaped() -> Iterator[Process]:
    """A process that was killed and whose parent has not noticed yet."""
    child = subprocess.Popen(["sleep", "60"])
    process = process_of(child.pid)
    assert not is_gone(process)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        yield process
    finally:
        child.wait()


def ended_process() -> Process:
    with unreaped() as process:
        pass
    return process


def test_a_process_that_ended_on_this_machine_is_dead_at_once(table: DynamoTable) -> None:
    table.put_lease(JOB, ended_process())
    manager, time = table.timed_store(JOB)

    assert manager.acquire(JOB) is not None

    assert time.waited_s == 0


def test_one_that_ended_unseen_by_its_parent_is_dead_too() -> None:
    with unreaped() as process:
        assert is_gone(process)


def test_another_process_with_the_holders_pid_is_not_the_holder(table: DynamoTable) -> None:
    me = this_process()
    table.put_lease(JOB, replace(me, pid_start=me.pid_start - 1))
    manager, time = table.timed_store(JOB)

    assert manager.acquire(JOB) is not None

    assert time.waited_s == 0


@pytest.mark.parametrize(
    "foreign",
    [{"boot_id": "another boot"}, {"pid_ns": "pid:[1]"}, {"host": "another-host"}, {"pid_start": 0}, {"boot_id": ""}],
    ids=str,
)
def test_a_pid_means_nothing_elsewhere(foreign: dict[str, Any]) -> None:
    """Containers of one machine share its boot id, and each has a process 1."""
    assert is_gone(ended_process())
    assert not is_gone(replace(ended_process(), **foreign))


def test_this_process_lives() -> None:
    me = this_process()

    assert not is_gone(me)
    assert (me.pid, me.host) == (os.getpid(), socket.gethostname())
    assert me.pid_start > 0


def test_a_process_of_another_user_lives() -> None:
    user = os.getuid()
    if user == 0:
        os.setresuid(65534, 65534, 0)
    try:
        with pytest.raises(PermissionError):
            os.kill(1, 0)
        assert not is_gone(process_of(1))
    finally:
        if user == 0:
            os.setresuid(0, 0, 0)


def test_where_the_system_tells_nothing_nobody_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ended_process()

    def no_proc(path: Path, **options: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", no_proc)
    lease._machine.cache_clear()
    try:
        assert not is_gone(ended)
        assert not is_gone(this_process())
        assert this_process().pid_start == 0
    finally:
        lease._machine.cache_clear()
