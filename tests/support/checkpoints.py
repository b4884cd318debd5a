"""Ways behind the checkpoint stores: a table of its own with a clock that nobody waits for, a wire that loses
requests and answers, rows as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import moto.dynamodb.urls  # noqa: F401 - moto loads it at first use otherwise, in the time of the first test
import pytest
from botocore import exceptions as aws

from csv2kafka.checkpoints.dynamodb import CheckpointManager
from csv2kafka.checkpoints.lease import Lease, Process

TABLE = "checkpoints"


class FakeTime:
    """A monotonic clock (seconds) that only waiting moves."""

    def __init__(self, while_waiting: Callable[[], None]) -> None:
        self.now_s = 1_000.0
        self.waited_s = 0.0
        self._while_waiting = while_waiting

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds
        self.waited_s += seconds
        self._while_waiting()


class DynamoTable:
    """A checkpoint table. Needs moto (or any DynamoDB) to be active where it is made and used."""

    def __init__(self, name: str = TABLE) -> None:
        self.name = name
        self.table = boto3.resource("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def store(self, job_id: str, *, while_waiting: Callable[[], None] = lambda: None) -> CheckpointManager:
        return self.timed_store(job_id, while_waiting=while_waiting)[0]

    def timed_store(
        self, job_id: str, *, while_waiting: Callable[[], None] = lambda: None
    ) -> tuple[CheckpointManager, FakeTime]:
        time = FakeTime(while_waiting)
        return CheckpointManager(self.name, job_id, clock=time.clock, wait=time.wait), time

    def put_lease(self, job_id: str, process: Process, ttl_ms: int = 10_000) -> None:
        """A job at row 7, held by `process`."""
        lease = replace(Lease().taken(), process=process, ttl_ms=ttl_ms)
        self.put({"job_id": job_id, "last_line": 7, **lease.to_item()})

    def item(self, job_id: str) -> dict[str, Any]:
        return self.table.get_item(Key={"job_id": job_id}, ConsistentRead=True).get("Item", {})

    def clear(self) -> None:
        while items := self.table.scan()["Items"]:  # a page at a time
            for item in items:
                self.table.delete_item(Key={"job_id": item["job_id"]})

    def put(self, item: dict[str, Any]) -> None:
        self.table.put_item(Item=item)


def sqlite_items(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a checkpoint file by job, as they stand there, columns without a value left out."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM checkpoints")]
    return {row["job_id"]: {name: value for name, value in row.items() if value is not None} for row in rows}


def write_sqlite_item(path: Path, item: dict[str, Any]) -> None:
    names, marks = ", ".join(item), ", ".join("?" * len(item))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"INSERT OR REPLACE INTO checkpoints ({names}) VALUES ({marks})", tuple(item.values()))


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
