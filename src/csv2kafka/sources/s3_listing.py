"""The keys below a prefix on S3, in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from csv2kafka.errors import UsageError
from csv2kafka.sources.prefetch import Stop
from csv2kafka.sources.s3 import FAILURES, Patience, Retries, make_client

_A_PAGE = 1000  # what S3 gives at most


def uris_below(uri: str, *, region: str | None = None, profile: str | None = None) -> Iterator[str]:
    """Of every object whose key begins with that of `uri` (s3://BUCKET/PREFIX), folder markers apart.

    Raises SourceMissing (no such bucket), SourceUnavailable, Denied, UsageError, ConfigError.
    """
    bucket, _, prefix = uri[len("s3://") :].partition("/")
    if not bucket:
        raise UsageError(f"{uri} names no bucket", hint="write s3://BUCKET/PREFIX/")
    patience = Patience(Retries(), uri, None, Stop())
    after = ""
    with closing(make_client(region, profile)) as client:
        while True:
            try:
                page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=_A_PAGE)
            except FAILURES as error:
                patience.failed(error, "listing it")
                continue
            patience.refill()
            keys = [found["Key"] for found in page.get("Contents", ())]
            yield from (f"s3://{bucket}/{key}" for key in keys if not key.endswith("/"))
            if not page["IsTruncated"]:
                return
            after = keys[-1]
