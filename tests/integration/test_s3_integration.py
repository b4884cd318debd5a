"""Reading a CSV from S3: as the plan has it, through smart_open and an in-process S3, and through our own opener."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from smart_open import open as smart_open

import processor
from csv2kafka.sources import open_source
from csv2kafka.sources.prefetch import ReadAhead
from csv2kafka.sources.s3 import S3Source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROWS = [{"id": str(row), "name": f"item-{row}", "value": str(row * 10)} for row in range(1000)]


def as_csv() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=["id", "name", "value"])
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def rows_of(lines: Iterator[bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(line.decode() for line in lines))


@mock_aws
@pytest.mark.integration
class TestS3Integration:
    @pytest.fixture
    def s3_setup(self) -> Iterator[tuple[S3Client, str]]:
        # The class's decorator covers the tests alone; inside this one it neither ends the mock nor empties it.
        with mock_aws():
            s3 = boto3.client("s3", region_name="us-east-1")
            s3.create_bucket(Bucket="test-bucket")
            s3.put_object(Bucket="test-bucket", Key="test.csv", Body=as_csv())
            yield s3, "test-bucket"

    def test_read_csv_from_s3(self, s3_setup: tuple[S3Client, str]) -> None:
        s3, bucket = s3_setup

        with smart_open(f"s3://{bucket}/test.csv", "r", newline="", transport_params={"client": s3}) as file:
            rows = list(csv.DictReader(file))

        assert len(rows) == 1000
        assert rows[0]["id"] == "0"
        assert rows[999]["id"] == "999"
        assert rows == ROWS

    def test_our_opener_reads_the_same(self, s3_setup: tuple[S3Client, str]) -> None:
        s3, bucket = s3_setup

        with processor.smart_open(f"s3://{bucket}/test.csv", client=s3) as source:
            assert rows_of(iter(source)) == ROWS
        with processor.smart_open(f"s3://{bucket}/test.csv") as source:
            assert rows_of(iter(source)) == ROWS, "a client of the default chain"


@pytest.mark.integration
class TestS3Server:
    """Over HTTP, in another process."""

    @pytest.fixture
    def uri(self, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
        bucket = f"bucket-{uuid.uuid4()}"
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="test.csv", Body=as_csv())
        return f"s3://{bucket}/test.csv"

    def test_read_csv_from_a_server(self, uri: str) -> None:
        with open_source(uri) as source:
            assert rows_of(iter(source)) == ROWS

    def test_ranged_reads_side_by_side(self, uri: str) -> None:
        body = as_csv()
        with S3Source(
            uri, boto3.client("s3"), close_client=True, ahead=ReadAhead(lanes=3, part_bytes=1000, piece_bytes=300)
        ) as source:
            for offset in (0, 999, 1000, len(body) - 1):
                assert b"".join(source.read_from(offset)) == body[offset:]
