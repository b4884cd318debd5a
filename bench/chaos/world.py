"""What a campaign's loads share: a broker and AWS, each behind a proxy that can break the way to them.

The campaign itself asks broker and AWS directly, so nothing that befalls the loader blinds the judge. Which faults
there are is not decided here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient  # type: ignore[attr-defined]

from csv2kafka.devbroker import Broker, die_with_parent
from tests.support import moto_process
from tests.support.far_broker import far_broker
from tests.support.http_proxy import HttpProxy
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AWS_LOG = "aws.log"
BUCKET = TABLE = "chaos"
_CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
_OPTIONS_OF_OURS = ("CSV2KAFKA_", "KAFKA_", "S3_", "DYNAMODB_TABLE", "JOB_ID", "ENABLE_METRICS", "AWS_")


@dataclass
class World:
    """`kafka`, `s3` and `dynamodb` stand in the loader's way; `far_bootstrap` is its address of the broker.
    `round_trip_s` is how far away the broker is as long as no fault makes it farther.
    """

    broker: Broker
    kafka: TcpProxy
    far_bootstrap: str
    s3: HttpProxy
    dynamodb: HttpProxy
    bucket: S3Client
    table: Any
    round_trip_s: float = 0.0

    def __post_init__(self) -> None:
        # Kept: librdkafka abandons a request whose client is gone.
        self._admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})

    def set_round_trip(self, seconds: float) -> None:
        self.round_trip_s = seconds
        self.kafka.delay(up_s=seconds / 2, down_s=seconds / 2)

    def heal(self) -> None:
        """No fault any more, whatever went before."""
        self.kafka.release()
        self.kafka.restore()
        self.set_round_trip(self.round_trip_s)
        for proxy in (self.s3, self.dynamodb):
            proxy.heal()
            proxy.release()
        if self.broker.is_running:
            self.broker.resume()
        else:
            self.broker.restart()

    def produce(self, topic: str, values: Iterable[bytes]) -> None:
        """As another program would, into partition 0."""
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        for value in values:
            producer.produce(topic, value, partition=0)
        assert producer.flush(30) == 0

    def forget(self, topic: str, job_id: str) -> None:
        """Remove what a finished load left in the broker and in AWS."""
        self._admin.delete_topics([topic])[topic].result(timeout=30)
        self.bucket.delete_object(Bucket=BUCKET, Key=job_id)
        self.table.delete_item(Key={"job_id": job_id})
        for proxy in (self.s3, self.dynamodb):
            proxy.requests.clear()
        self.kafka.unheard.clear()

    def environment(self) -> Mapping[str, str]:
        """For the loader: whatever this process's own says of options or AWS does not reach it."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OPTIONS_OF_OURS)}
        return clean | {
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Everything running, from a broker to an empty bucket. The AWS server's log goes to the folder."""
    with (
        _aws_server(folder / AWS_LOG) as server,
        far_broker(heap_mb=1024) as (broker, kafka, far_bootstrap),
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, "the AWS server did not start"
        bucket = boto3.client("s3", endpoint_url=url, **_CREDENTIALS)
        bucket.create_bucket(Bucket=BUCKET)
        table = boto3.resource("dynamodb", endpoint_url=url, **_CREDENTIALS).create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        with HttpProxy(url) as s3, HttpProxy(url) as dynamodb:
            yield World(broker, kafka, far_bootstrap, s3, dynamodb, bucket, table)


@contextmanager
def _aws_server(log_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The tests' AWS server, just started: its address comes on its standard output."""
    with log_path.open("w") as log:
        server = subprocess.Popen(
            die_with_parent([sys.executable, moto_process.__file__]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield server
    finally:
        server.kill()
        server.communicate()
