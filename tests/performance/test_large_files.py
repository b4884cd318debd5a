"""A file of a million rows, from disk and from S3: every record is what csv and json make of its row, in order."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import get_args

import boto3
import pytest

from bench import data
from csv2kafka.devbroker import Broker
from processor import CheckpointManager, CSVToKafkaProcessor
from tests.performance.conftest import LARGE_ROWS
from tests.support.loads import Load
from tests.support.oracle import Isolation, iter_topic


@pytest.mark.performance
@pytest.mark.kafka
class TestLargeFiles:
    def test_every_row_of_a_large_file(self, large_csv: Path, make_load: Callable[..., Load]) -> None:
        load = make_load(large_csv)

        receipt = load.run()

        assert (receipt.status, receipt.rows, receipt.bytes) == ("complete", LARGE_ROWS, large_csv.stat().st_size)
        assert_equal(load.bootstrap, load.topic, large_csv)

    def test_every_row_of_a_large_object(
        self, large_csv: Path, broker: Broker, topic: str, moto_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
        name = f"large-{uuid.uuid4().hex[:12]}"
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=name)
        s3.upload_file(str(large_csv), name, "large_data.csv")
        boto3.resource("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

        processor = CSVToKafkaProcessor(
            name, "large_data.csv", broker.bootstrap, topic, CheckpointManager(name, name), checkpoint_interval=100_000
        )
        try:
            receipt = processor.process()
        finally:
            s3.delete_object(Bucket=name, Key="large_data.csv")

        assert (receipt.status, receipt.rows) == ("complete", LARGE_ROWS)
        assert_equal(broker.bootstrap, topic, large_csv)


def assert_equal(bootstrap: str, topic: str, path: Path) -> None:
    """For both kinds of consumers the topic is the file."""
    uncommitted, committed = (iter_topic(bootstrap, topic, isolation=isolation) for isolation in get_args(Isolation))
    for row, (expected, *found) in enumerate(zip_longest(data.expected_values(path), uncommitted, committed), 1):
        if found != [expected, expected]:
            pytest.fail(f"row {row}: {found} instead of {expected!r}")
