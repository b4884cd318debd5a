"""A checkpoint store of each kind for the real program, with a way to look and reach behind it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import boto3

from tests.support.checkpoints import sqlite_items, write_sqlite_item
from tests.support.http_proxy import HttpProxy

JOB = "job"  # what CliLoad calls it
ATTEMPTS = 2  # of each of boto3's calls: fewer than by default, for it pauses between them


class SqliteFile:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints.db"
        self.url = f"sqlite:///{self.path}"
        self.env: dict[str, str] = {}

    def item(self) -> dict[str, Any]:
        """The job's row, columns without a value left out."""
        return sqlite_items(self.path).get(JOB, {})

    def put(self, item: dict[str, Any]) -> None:
        write_sqlite_item(self.path, item)

    def depose(self) -> None:
        """Take the lease from a holder that lives, which only the removal of its lock file does."""
        for lock in self.path.parent.glob("*.lock"):
            lock.unlink()


class DynamoTable:
    """A table that the program reaches through `proxy`, and the test directly."""

    def __init__(self, server_url: str, proxy: HttpProxy) -> None:
        name = f"checkpoints-{uuid.uuid4().hex[:12]}"
        self._table = boto3.resource("dynamodb", endpoint_url=server_url).create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.proxy = proxy
        self.url = f"dynamodb://{name}"
        self.env = {"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": str(ATTEMPTS)}

    def item(self) -> dict[str, Any]:
        return self._table.get_item(Key={"job_id": JOB}, ConsistentRead=True).get("Item", {})

    def put(self, item: dict[str, Any]) -> None:
        self._table.put_item(Item=item)

    def depose(self) -> None:
        """Nothing to do: a taker waits for the time to live."""


JobStore = SqliteFile | DynamoTable
