"""What only the DynamoDB store can do or suffer: leases without locks, lost answers, refusals of AWS."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as aws
from moto import mock_aws

from csv2kafka.checkpoints import lease, open_store
from csv2kafka.checkpoints.dynamodb import CheckpointManager
from csv2kafka.checkpoints.item import total_lines_key
from csv2kafka.checkpoints.lease import Lease, Process, is_gone, this_process
from csv2kafka.errors import (
    CheckpointMissing,
    CheckpointUnavailable,
    ConfigError,
    Csv2KafkaError,
    Denied,
    Fenced,
    JobConflict,
    JobHeld,
)
from csv2kafka.model import Checkpoint, JobStatus
from tests.support.checkpoints import TABLE, DynamoTable, FakeTime

JOB = "job"


@pytest.fixture(scope="module")
def module_table() -> Iterator[DynamoTable]:
    with mock_aws():
        yield DynamoTable()


@pytest.fixture
def table(module_table: DynamoTable) -> DynamoTable:
    module_table.clear()
    return module_table


def row_of(manager: CheckpointManager) -> int:
    checkpoint = manager.load(JOB)
    assert checkpoint is not None
    return checkpoint.last_line


def answer(code: str, operation: str = "PutItem") -> aws.ClientError:
    return aws.ClientError({"Error": {"Code": code, "Message": "as AWS says it"}}, operation)


class Wire:
    """Stands between a manager and its table's put_item, to lose or repeat what passes."""

    def __init__(self, manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        self._put = manager.table.put_item
        self._monkeypatch, self._table = monkeypatch, manager.table
        self.held_back: list[dict[str, Any]] = []

    def during_next_put(self, action: Callable[[dict[str, Any]], object]) -> None:
        """`action` takes the next request in place of the table."""

        def put_item(**request: Any) -> object:
            self._monkeypatch.setattr(self._table, "put_item", self._put)
            return action(request)

        self._monkeypatch.setattr(self._table, "put_item", put_item)

    def repeat(self, request: dict[str, Any]) -> object:
        self._put(**request)
        return self._put(**request)

    def lose_the_answer(self, request: dict[str, Any]) -> object:
        self._put(**request)
        raise aws.ReadTimeoutError(endpoint_url="https://table")

    def lose_the_request(self, request: dict[str, Any]) -> object:
        self.held_back.append(request)
        raise aws.ReadTimeoutError(endpoint_url="https://table")

    def deliver(self) -> None:
        """What was held back arrives late, and is refused."""
        for request in self.held_back:
            with pytest.raises(aws.ClientError, match="ConditionalCheckFailedException"):
                self._put(**request)


@pytest.fixture
def holder(table: DynamoTable) -> CheckpointManager:
    """Holds the job, at row 1."""
    manager = table.store(JOB)
    manager.acquire(JOB)
    manager.save(Checkpoint(JOB, 1, 1))
    return manager


@pytest.fixture
def wire(holder: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(holder, monkeypatch)


# Answers that get lost


def test_a_put_that_boto3_repeated_is_our_own(holder: CheckpointManager, wire: Wire) -> None:
    for call in (partial(holder.save, Checkpoint(JOB, 2, 2)), holder.renew, holder.release):
        wire.during_next_put(wire.repeat)
        call()

    assert row_of(holder) == 2
    assert "lease_owner" not in holder.table.get_item(Key={"job_id": JOB})["Item"]


def test_a_taking_that_boto3_repeated_is_our_own(table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = table.store(JOB)
    wire = Wire(manager, monkeypatch)
    wire.during_next_put(wire.repeat)

    assert manager.acquire(JOB) is None

    manager.save(Checkpoint(JOB, 1, 1))


@pytest.mark.parametrize("arrived", [True, False])
def test_it_goes_on_after_an_answer_that_never_came(holder: CheckpointManager, wire: Wire, arrived: bool) -> None:
    wire.during_next_put(wire.lose_the_answer if arrived else wire.lose_the_request)
    with pytest.raises(CheckpointUnavailable):
        holder.save(Checkpoint(JOB, 2, 2))
    assert row_of(holder) == (2 if arrived else 1)

    holder.save(Checkpoint(JOB, 3, 3))
    wire.deliver()
    assert row_of(holder) == 3
    holder.save(Checkpoint(JOB, 4, 4))
    assert row_of(holder) == 4


def test_a_repeated_put_that_lost_the_lease_meanwhile_is_not_our_own(
    table: DynamoTable, holder: CheckpointManager, wire: Wire
) -> None:
    def taken_over_before_the_repetition(request: dict[str, Any]) -> object:
        holder.table.put_item(**request)
        table.store(JOB).acquire(JOB)
        return holder.table.put_item(**request)

    wire.during_next_put(taken_over_before_the_repetition)

    with pytest.raises(Fenced):
        holder.save(Checkpoint(JOB, 2, 2))


# Whether a holder lives


def managed(table: DynamoTable, while_waiting: Callable[[], None] = lambda: None) -> tuple[CheckpointManager, FakeTime]:
    time = FakeTime(while_waiting)
    return CheckpointManager(TABLE, JOB, clock=time.clock, wait=time.wait), time


def put_lease(table: DynamoTable, process: Process, ttl_ms: int = 10_000) -> None:
    held = replace(Lease().taken(), process=process, ttl_ms=ttl_ms)
    table.put({"job_id": JOB, "last_line": 7, **held.to_item()})


ELSEWHERE = Process("fargate-task", "another boot", "pid:[1]", 1, 12)


@pytest.mark.parametrize("ttl_ms", [10_000, 20_000])
def test_a_lease_elsewhere_is_taken_only_when_it_stood_still_for_its_time(table: DynamoTable, ttl_ms: int) -> None:
    put_lease(table, ELSEWHERE, ttl_ms)
    manager, time = managed(table)

    checkpoint = manager.acquire(JOB)

    assert checkpoint is not None
    assert checkpoint.last_line == 7
    assert time.waited_s == pytest.approx(ttl_ms / 1000)


def test_a_sign_of_life_at_the_last_moment_counts(table: DynamoTable) -> None:
    put_lease(table, ELSEWHERE)

    def renewed_late() -> None:
        if time.waited_s > 9:
            put_lease(table, ELSEWHERE)

    manager, time = managed(table, renewed_late)

    with pytest.raises(JobHeld, match="process 1 on fargate-task, since 20"):
        manager.acquire(JOB)


def test_a_lease_given_up_meanwhile_is_taken_without_more_waiting(
    table: DynamoTable, holder: CheckpointManager
) -> None:
    manager, time = managed(table, holder.release)

    assert manager.acquire(JOB) is not None

    assert time.waited_s == 1


def test_the_loser_of_two_takers_is_told(table: DynamoTable, monkeypatch: pytest.MonkeyPatch) -> None:
    put_lease(table, ELSEWHERE)
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
    assert row_of(manager) == 6


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
    put_lease(table, ended_process())
    manager, time = managed(table)

    assert manager.acquire(JOB) is not None

    assert time.waited_s == 0


def test_one_that_ended_unseen_by_its_parent_is_dead_too() -> None:
    with unreaped() as process:
        assert is_gone(process)


def test_another_process_with_the_holders_pid_is_not_the_holder(table: DynamoTable) -> None:
    me = this_process()
    put_lease(table, replace(me, pid_start=me.pid_start - 1))
    manager, time = managed(table)

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


# The plan's calls and the lease


def test_a_plain_write_is_refused_while_another_holds_the_job(table: DynamoTable, holder: CheckpointManager) -> None:
    plain, _ = managed(table, holder.renew)
    for write in (partial(plain.update_checkpoint, 9, 9), partial(plain.mark_complete, 9)):
        with pytest.raises(JobHeld):
            write()

    assert row_of(holder) == 1
    holder.save(Checkpoint(JOB, 2, 2))


def test_a_plain_write_goes_through_once_the_holder_is_dead(table: DynamoTable) -> None:
    put_lease(table, ELSEWHERE)
    manager, time = managed(table)

    manager.update_checkpoint(9, 8)

    assert time.waited_s == pytest.approx(10)
    assert manager.get_last_processed_line() == 9
    assert "lease_owner" not in table.item(JOB)


def test_a_plain_write_leaves_the_plans_fields_alone(table: DynamoTable) -> None:
    manager = table.store(JOB)
    manager.acquire(JOB)
    manager.save(Checkpoint(JOB, 5, 5, byte_offset=300))
    manager.release()

    manager.update_checkpoint(4, 4)

    item = table.item(JOB)
    assert item.pop("timestamp")
    assert item == {"job_id": JOB, "status": "IN_PROGRESS", "last_line": 4, "total_sent": 4}


def test_a_plain_write_of_the_holder_keeps_its_lease(table: DynamoTable, holder: CheckpointManager) -> None:
    holder.update_checkpoint(2, 2)

    assert "lease_owner" in table.item(JOB)
    holder.mark_complete(3)
    checkpoint = holder.load(JOB)
    assert checkpoint is not None
    assert (checkpoint.last_line, checkpoint.status) == (3, JobStatus.COMPLETED)


def test_a_plain_write_of_one_who_lost_the_lease_is_refused(table: DynamoTable, holder: CheckpointManager) -> None:
    table.store(JOB).acquire(JOB)

    with pytest.raises(Fenced):
        holder.update_checkpoint(2, 2)


def test_a_text_that_is_none_is_refused(table: DynamoTable) -> None:
    table.put({"job_id": JOB, "last_line": 5, "record_shape": 7})

    with pytest.raises(JobConflict, match="record_shape is 7, not a text"):
        table.store(JOB).acquire(JOB)


def test_counts_that_make_no_sense_are_not_read_as_zero(table: DynamoTable) -> None:
    for value in (Decimal("1.5"), "500", True, Decimal("1e30"), [1]):
        table.put({"job_id": JOB, "last_line": value})
        with pytest.raises(JobConflict, match="last_line is "):
            table.store(JOB).get_last_processed_line()


def test_forgetting_removes_the_counted_lines(table: DynamoTable, holder: CheckpointManager) -> None:
    table.put({"job_id": total_lines_key(JOB), "total_lines": 5})
    table.put({"job_id": total_lines_key("another"), "total_lines": 5})
    holder.release()

    holder.forget(JOB)

    assert table.item(total_lines_key(JOB)) == {}
    assert table.item(total_lines_key("another")) != {}


def test_what_others_keep_in_the_item_survives_taking_it(table: DynamoTable) -> None:
    table.put({"job_id": JOB, "last_line": 5, "note": "ours"})
    manager = table.store(JOB)
    manager.acquire(JOB)
    manager.renew()

    assert table.item(JOB)["note"] == "ours"


# What AWS refuses


def test_a_missing_table_comes_with_the_command_that_makes_it(module_table: DynamoTable) -> None:
    manager = open_store("dynamodb://my-table", JOB)
    assert isinstance(manager, CheckpointManager)
    calls: list[Callable[[], object]] = [
        partial(manager.acquire, JOB),
        partial(manager.load, JOB),
        partial(manager.update_checkpoint, 1, 1),
    ]
    for call in calls:
        with pytest.raises(CheckpointMissing) as refused:
            call()
        assert refused.value.hint == (
            "aws dynamodb create-table --table-name my-table "
            "--attribute-definitions AttributeName=job_id,AttributeType=S "
            "--key-schema AttributeName=job_id,KeyType=HASH --billing-mode PAY_PER_REQUEST"
        )


def test_a_table_with_another_key_is_named(module_table: DynamoTable) -> None:
    boto3.client("dynamodb").create_table(
        TableName="other-key",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    with pytest.raises(ConfigError) as refused:
        CheckpointManager("other-key", JOB).acquire(JOB)

    assert "its key must be job_id" in refused.value.hint


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (answer("AccessDeniedException"), Denied, "dynamodb:PutItem"),
        (answer("ExpiredTokenException"), Denied, "credentials"),
        (answer("UnrecognizedClientException"), Denied, "credentials"),
        (aws.NoCredentialsError(), Denied, "credentials"),
        (aws.TokenRetrievalError(provider="sso", error_msg="expired"), Denied, "credentials"),
        (aws.ParamValidationError(report="Invalid length"), ConfigError, "Invalid length"),
        (answer("ProvisionedThroughputExceededException"), CheckpointUnavailable, "as AWS says it"),
        (answer("ThrottlingException"), CheckpointUnavailable, "as AWS says it"),
        (answer("InternalServerError"), CheckpointUnavailable, "as AWS says it"),
        (aws.EndpointConnectionError(endpoint_url="https://table"), CheckpointUnavailable, "https://table"),
        (aws.ConnectionClosedError(endpoint_url="https://table"), CheckpointUnavailable, "https://table"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_refusal_says_what_to_do(
    holder: CheckpointManager, wire: Wire, failure: Exception, kind: type[Csv2KafkaError], said: str
) -> None:
    def refuse(request: dict[str, Any]) -> object:
        raise failure

    wire.during_next_put(refuse)

    with pytest.raises(kind) as refused:
        holder.save(Checkpoint(JOB, 2, 2))

    assert said in refused.value.message
    assert TABLE in refused.value.message
    assert refused.value.hint
    assert row_of(holder) == 1


def test_without_credentials_access_is_denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(Denied) as refused:
        CheckpointManager(TABLE, JOB).load(JOB)

    assert "AWS_PROFILE" in refused.value.hint


def test_without_a_region_it_asks_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    with pytest.raises(ConfigError) as refused:
        CheckpointManager(TABLE, JOB)

    assert "AWS_DEFAULT_REGION" in refused.value.hint
    assert CheckpointManager(TABLE, JOB, region="eu-west-1").table.meta.client.meta.region_name == "eu-west-1"


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        CheckpointManager(TABLE, JOB, region="eu-west-1", profile="nobody")


def test_an_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

        with pytest.raises(CheckpointUnavailable):
            CheckpointManager(TABLE, JOB).acquire(JOB)


def test_an_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    with pytest.raises(ConfigError) as refused:
        CheckpointManager(TABLE, JOB)

    assert "AWS_ENDPOINT_URL" in refused.value.hint


def test_boto3_itself_retries_with_patience_that_ends() -> None:
    with mock_aws():
        config: Any = CheckpointManager(TABLE, JOB).table.meta.client.meta.config

    assert config.retries["mode"] == "standard"
    assert config.connect_timeout + config.read_timeout < 10
