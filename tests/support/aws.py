"""A bucket and a checkpoint table for one test, and the plan's thousand rows. Needs moto or AWS_ENDPOINT_URL active."""

from __future__ import annotations

import csv
import io
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from tests.support import csv_oracle

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3 import S3Client

KEY = "test.csv"


class Aws(NamedTuple):
    s3: S3Client
    bucket: str
    table: Table

    def put(self, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=KEY, Body=data)

    def item(self, job_id: str = "test-job") -> dict[str, Any]:
        """The job's item as it stands in the table."""
        return self.table.get_item(Key={"job_id": job_id}, ConsistentRead=True).get("Item", {})


def set_up() -> Aws:
    """Names that no other test has; `thousand_rows` is in the bucket."""
    s3 = boto3.client("s3", region_name="us-east-1")
    bucket = f"test-bucket-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    table = boto3.resource("dynamodb", region_name="us-east-1").create_table(
        TableName=f"test-checkpoint-{uuid.uuid4().hex[:12]}",
        KeySchema=[{"AttributeName": "job_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "job_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    aws = Aws(s3, bucket, table)
    aws.put(thousand_rows())
    return aws


def thousand_rows() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=["id", "name", "value"])
    writer.writeheader()
    writer.writerows({"id": i, "name": f"item-{i}", "value": i * 10} for i in range(1000))
    return text.getvalue().encode()


def records(data: bytes) -> list[bytes]:
    """What csv and json make of a file, up to its first bad row."""
    return list(csv_oracle.expect(data).values)
