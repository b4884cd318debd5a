"""Ways behind the checkpoint stores: a table of its own with a clock that nobody waits for, rows as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import moto.dynamodb.urls  # noqa: F401 - moto loads it at first use otherwise, in the time of the first test

from csv2kafka.checkpoints.dynamodb import CheckpointManager

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

    def __init__(self) -> None:
        self.table = boto3.resource("dynamodb").create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def store(self, job_id: str, *, while_waiting: Callable[[], None] = lambda: None) -> CheckpointManager:
        time = FakeTime(while_waiting)
        return CheckpointManager(TABLE, job_id, clock=time.clock, wait=time.wait)

    def item(self, job_id: str) -> dict[str, Any]:
        return self.table.get_item(Key={"job_id": job_id}, ConsistentRead=True).get("Item", {})

    def clear(self) -> None:
        for item in self.table.scan()["Items"]:
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
