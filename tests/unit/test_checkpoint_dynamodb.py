"""What only the DynamoDB store can do or suffer: lost answers, writes without a lease, refusals of AWS.

How it tells dead holders from living ones is in test_checkpoint_lease.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as aws
from moto import mock_aws

from csv2kafka.checkpoints import open_store
from csv2kafka.checkpoints.dynamodb import CheckpointManager
from csv2kafka.checkpoints.item import total_lines_key
from csv2kafka.checkpoints.lease import Process
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
from tests.support.checkpoints import TABLE, DynamoTable, Wire

JOB = "job"


@pytest.fixture(scope="module")
def module_table() -> Iterator[DynamoTable]:
    with mock_aws():
        yield DynamoTable()


@pytest.fixture
def table(module_table: DynamoTable) -> DynamoTable:
    module_table.clear()
    return module_table


ELSEWHERE = Process("fargate-task", "another boot", "pid:[1]", 1, 12)


def row_of(manager: CheckpointManager) -> int:
    checkpoint = manager.load(JOB)
    assert checkpoint is not None
    return checkpoint.last_line


def answer(code: str, operation: str = "PutItem") -> aws.ClientError:
    return aws.ClientError({"Error": {"Code": code, "Message": "as AWS says it"}}, operation)


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


# The plan's calls and the lease


def test_a_plain_write_is_refused_while_another_holds_the_job(table: DynamoTable, holder: CheckpointManager) -> None:
    plain, _ = table.timed_store(JOB, while_waiting=holder.renew)
    for write in (partial(plain.update_checkpoint, 9, 9), partial(plain.mark_complete, 9)):
        with pytest.raises(JobHeld):
            write()

    assert row_of(holder) == 1
    holder.save(Checkpoint(JOB, 2, 2))


def test_a_plain_write_goes_through_once_the_holder_is_dead(table: DynamoTable) -> None:
    table.put_lease(JOB, ELSEWHERE)
    manager, time = table.timed_store(JOB)

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
