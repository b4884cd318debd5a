"""Benchmark files as objects on a real S3 server: a bucket that lives as long as its server."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import boto3

from bench.s3server import S3Server

_NAME = "bench"


class Bucket:
    """An S3 server of its own with one bucket. `environment` is what AWS clients need to reach it."""

    def __init__(self) -> None:
        self._server = S3Server()
        self.environment = self._server.environment
        self._client = boto3.client(
            "s3",
            endpoint_url=self._server.endpoint_url,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )
        self._client.create_bucket(Bucket=_NAME)

    def upload(self, file: Path) -> str:
        """Put the file there under its own name; return its s3:// address."""
        self._client.upload_file(str(file), _NAME, file.name)
        return f"s3://{_NAME}/{file.name}"

    def delete(self, address: str) -> None:
        self._client.delete_object(Bucket=_NAME, Key=address.rpartition("/")[2])

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
