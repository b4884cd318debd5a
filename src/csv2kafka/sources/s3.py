"""An object on S3, pinned to one version and read by ranged GETs: the only file that knows S3's SDK.

Every answer is checked before a byte of it counts. What breaks goes on at the exact next byte; what cannot get better
by trying again becomes an error of ours. Order and threads are prefetch.py's.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions as boto_errors
from botocore.config import Config
from urllib3.exceptions import HTTPError

from csv2kafka.errors import (
    ConfigError,
    Csv2KafkaError,
    Denied,
    SourceChanged,
    SourceError,
    SourceMissing,
    SourceUnavailable,
    UsageError,
)
from csv2kafka.model import SourceIdentity
from csv2kafka.sources import Source, check_offset
from csv2kafka.sources.prefetch import Prefetch, ReadAhead, Stop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

log = logging.getLogger(__name__)

_CAUTIOUS_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Retries:
    """How many failures in a row one request may have, and how long it waits between them. Progress refills it."""

    allowance: int = 10
    first_pause_s: float = 0.2
    longest_pause_s: float = 20.0


def make_client(
    region: str | None = None, profile: str | None = None, *, connections: int = ReadAhead().lanes + 1
) -> S3Client:
    """A client of the default chain (environment, profile, container, instance; AWS_ENDPOINT_URL). No network yet.

    connections: how many it keeps open. Raises ConfigError.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=20,
        retries={"total_max_attempts": 1},  # ours are the only retries: two layers would multiply
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Whole-object checksums say nothing about a range, and computing them would cost more than reading.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="csv2kafka",
    )
    try:
        return boto3.Session(region_name=region, profile_name=profile).client("s3", config=config)
    except (boto_errors.BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"no S3 client can be made: {error}", hint="check --region, --profile and AWS_ENDPOINT_URL"
        ) from error


class S3Source(Source):
    """`s3://bucket/key`, as it is now or as it was in the version `version_id` if that still exists."""

    def __init__(
        self,
        uri: str,
        client: S3Client,
        *,
        version_id: str | None = None,
        close_client: bool = False,
        ahead: ReadAhead | None = None,
        retries: Retries | None = None,
    ) -> None:
        """Asks for the object's identity. Raises SourceMissing, SourceUnavailable, Denied, UsageError, ConfigError."""
        self._bucket, self._key = _bucket_and_key(uri)
        self._client = client
        self._close_client = close_client
        self._ahead = ahead or ReadAhead()
        self._retries = retries or Retries()
        self._lock = threading.Lock()
        self._running: set[Prefetch] = set()
        self._closed = False
        self._failures = 0
        self._uri = f"s3://{self._bucket}/{self._key}"
        try:
            self.identity = self._find(version_id)
        except BaseException:
            self.close()
            raise

    @property
    def failures(self) -> int:
        return self._failures

    def _count_failure(self) -> None:
        with self._lock:  # several reads run side by side
            self._failures += 1

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        return self.read_range(offset_bytes, self.identity.size_bytes)

    def read_range(self, start_byte: int, end_byte: int) -> Generator[bytes, None, None]:
        check_offset(start_byte, self.identity)
        check_offset(end_byte, self.identity)
        return self._pieces(start_byte, end_byte)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_offset(offset_bytes, self.identity)
        end_byte = min(offset_bytes + size_bytes, self.identity.size_bytes)
        return b"".join(self._fetch(offset_bytes, end_byte, Stop()))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running = list(self._running)
        for read in running:
            read.stop()
        if self._close_client:
            self._client.close()

    def _pieces(self, start_byte: int, end_byte: int) -> Generator[bytes, None, None]:
        read = Prefetch(self._fetch, start_byte, end_byte, self._ahead)
        with self._lock:
            if self._closed:
                raise ValueError(f"{self._uri} was closed before it was read")
            self._running.add(read)
        try:
            yield from read.pieces()
        finally:
            with self._lock:
                self._running.discard(read)

    def _find(self, version_id: str | None) -> SourceIdentity:
        if version_id is not None:
            # Gone, or from before the bucket was made anew: the newest object may still hold the same bytes.
            with suppress(SourceMissing):
                return self._head(version_id)
        return self._head(None)

    def _head(self, version_id: str | None) -> SourceIdentity:
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key}
        if version_id is not None:
            where["VersionId"] = version_id

        def ask() -> SourceIdentity:
            try:
                answer = self._client.head_object(**where)
            except boto_errors.ClientError as error:
                if _status(error) < 500:
                    # The answer to a HEAD has no body: ask for one byte to learn the reason.
                    self._client.get_object(**where, Range="bytes=0-0")["Body"].close()
                raise
            if not answer.get("ETag"):
                raise SourceError(
                    f"{self._uri} has no ETag, so that a change of it would go unnoticed",
                    hint="upload it through the server's S3 interface, or download it and load the file",
                )
            return SourceIdentity(
                self._uri, answer["ContentLength"], answer["ETag"], answer.get("VersionId", version_id)
            )

        patience = Patience(self._retries, self._uri, None, Stop(), self._count_failure)
        while True:
            try:
                return ask()
            except FAILURES as error:
                patience.failed(error, "asking for its size")

    def _fetch(self, start_byte: int, end_byte: int, stop: Stop) -> Iterator[bytes]:
        patience = Patience(self._retries, self._uri, self.identity, stop, self._count_failure)
        piece_bytes = self._ahead.piece_bytes
        while start_byte < end_byte:
            try:
                for piece in self._get(start_byte, end_byte, piece_bytes, stop):
                    start_byte += len(piece)
                    patience.refill()
                    yield piece
            except FAILURES as error:
                patience.failed(error, f"reading bytes {start_byte} to {end_byte - 1}")
                # A read that breaks loses what it got: on a bad network only small ones make progress.
                piece_bytes = min(piece_bytes, _CAUTIOUS_BYTES)

    def _get(self, start_byte: int, end_byte: int, piece_bytes: int, stop: Stop) -> Iterator[bytes]:
        """One ranged GET. The pieces may end early: a short body is found by counting, boto3 does not mind it."""
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key, "IfMatch": self.identity.etag}
        if self.identity.version_id is not None:
            where["VersionId"] = self.identity.version_id
        answer = self._client.get_object(**where, Range=f"bytes={start_byte}-{end_byte - 1}")
        # The raw stream, as urllib3 has it: reads go to the socket without a copy, and it can be woken.
        with answer["Body"] as raw, stop.waking(lambda: _shut_down(raw)):
            self._check(answer, start_byte, end_byte)
            while start_byte < end_byte:
                piece = raw.read(min(piece_bytes, end_byte - start_byte))
                if not piece:
                    raise _BrokenAnswer(f"the answer ended {end_byte - start_byte} bytes early")
                start_byte += len(piece)
                yield piece

    def _check(self, answer: GetObjectOutputTypeDef, start_byte: int, end_byte: int) -> None:
        if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            raise SourceError(
                f"{self._uri}: the server ignores ranged reads (asked for bytes {start_byte} to {end_byte - 1}, it "
                f"answered {answer['ResponseMetadata']['HTTPStatusCode']})",
                hint="check AWS_ENDPOINT_URL and any proxy between here and S3, or download the object and load "
                "the file",
            )
        if answer.get("ETag", self.identity.etag) != self.identity.etag:
            raise _changed(self._uri, self.identity, f"its ETag is {answer['ETag']} now")
        wanted = f"bytes {start_byte}-{end_byte - 1}/{self.identity.size_bytes}"
        if answer.get("ContentRange") != wanted or answer["ContentLength"] != end_byte - start_byte:
            raise _BrokenAnswer(
                f"wanted {wanted}, got {answer.get('ContentRange')} with {answer['ContentLength']} bytes"
            )


class _BrokenAnswer(Exception):
    """An answer that arrived, but not as asked for. Asking again may help."""


# What a request may end in: `_final_error` tells what lasts from what passes. Anything else is a bug.
FAILURES = (boto_errors.ClientError, boto_errors.BotoCoreError, HTTPError, OSError, _BrokenAnswer)


class Patience:
    """The allowance of one request, and its pauses: exponential, with full jitter."""

    def __init__(
        self,
        retries: Retries,
        uri: str,
        pinned: SourceIdentity | None,
        stop: Stop,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        """`count` is told of each failure after which the request is made again."""
        self._retries = retries
        self._uri = uri
        self._pinned = pinned
        self._stop = stop
        self._count = count
        self._failures = 0

    def refill(self) -> None:
        self._failures = 0

    def failed(self, error: Exception, doing: str) -> None:
        """Take note of a failure and pause. Raises the error that it is when trying again is of no use, or Stopped."""
        self._stop.wait(0)
        final = _final_error(error, self._uri, self._pinned)
        if final is not None:
            raise final from error
        self._failures += 1
        if self._failures >= self._retries.allowance:
            raise SourceUnavailable(
                f"{self._uri}: {doing} failed {self._failures} times in a row, the last time with: {_said(error)}",
                hint="check the network and AWS_ENDPOINT_URL, then run the same command again: it goes on here",
            ) from error
        self._count()
        if self._failures == 1:
            log.warning("%s: %s failed, trying again: %s", self._uri, doing, _said(error))
        else:
            log.debug("%s: %s failed %d times in a row: %s", self._uri, doing, self._failures, _said(error))
        pause_s = min(self._retries.longest_pause_s, self._retries.first_pause_s * 2 ** (self._failures - 1))
        self._stop.wait(random.uniform(0, pause_s))  # noqa: S311 - jitter is no secret


_PASSING_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_DENIED_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed"}  # some come with 400
_NO_CREDENTIALS = (
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.CredentialRetrievalError,
    boto_errors.TokenRetrievalError,
    boto_errors.NoAuthTokenError,
    boto_errors.SSOError,
)
_NETWORK = (boto_errors.ConnectionError, boto_errors.HTTPClientError)


def _status(error: boto_errors.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _said(error: Exception) -> str:
    """The error in its own words: botocore would add how often it did not retry."""
    if isinstance(error, boto_errors.ClientError):
        said = error.response.get("Error", {})
        return f"{said.get('Code')}: {said.get('Message')}"
    return str(error) or type(error).__name__


def _final_error(error: Exception, uri: str, pinned: SourceIdentity | None) -> Csv2KafkaError | None:
    """What the user must hear; None when trying again may help."""
    if isinstance(error, boto_errors.ClientError):
        return _refused(error, uri, pinned)
    if isinstance(error, _NO_CREDENTIALS):
        return Denied(
            f"{uri}: no usable AWS credentials: {error}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --profile, or give the machine a role that "
            "allows s3:GetObject",
        )
    if isinstance(error, boto_errors.ParamValidationError):
        return UsageError(f"{uri}: {error}", hint="write s3://BUCKET/KEY")
    if isinstance(error, boto_errors.BotoCoreError) and not isinstance(error, _NETWORK):
        return ConfigError(f"{uri}: {error}", hint="check --region, --profile and AWS_ENDPOINT_URL")
    return None


def _refused(error: boto_errors.ClientError, uri: str, pinned: SourceIdentity | None) -> Csv2KafkaError | None:
    """An answer of S3 itself that says no."""
    status, code = _status(error), error.response.get("Error", {}).get("Code", "")
    if status >= 500 or status in (0, 408, 429) or code in _PASSING_CODES:
        return None
    if pinned is not None and status in (412, 416):  # some servers answer 416 to a shorter object
        return _changed(uri, pinned, "the server has another version now")
    if status == 404 or (status == 405 and pinned is not None):  # 405: the version is a delete marker
        what = {"NoSuchBucket": f"the bucket of {uri}", "NoSuchVersion": f"this version of {uri}"}.get(code, uri)
        return SourceMissing(
            f"{what} does not exist",
            hint="check bucket, key, --region and --profile; a job goes on when its object is put back",
        )
    if code == "InvalidObjectState":
        return SourceError(
            f"{uri} is archived and cannot be read", hint="restore it (`aws s3api restore-object`), then run again"
        )
    if status in (401, 403) or code in _DENIED_CODES:
        return Denied(
            f"{uri} may not be read: {_said(error)}",
            hint="renew the credentials if they expired; allow s3:GetObject on the object (s3:GetObjectVersion too "
            "in a versioned bucket) and s3:ListBucket on the bucket, without which a missing object looks denied",
        )
    return SourceError(f"{uri}: {_said(error)}", hint="check bucket, key, --region and AWS_ENDPOINT_URL")


def _changed(uri: str, pinned: SourceIdentity, why: str) -> SourceChanged:
    return SourceChanged(
        f"{uri} is no longer what this job reads ({pinned.size_bytes} bytes, ETag {pinned.etag}): {why}",
        hint="put that object back and run the same command again; or load the new one as a job of its own with "
        "--job-id NEW; or forget this job with `csv2kafka reset JOB` and begin again",
    )


def _shut_down(raw: Any) -> None:
    """Wake a thread that reads from this answer. An answer already read to its end, or a mock's, needs no waking."""
    with suppress(AttributeError, ValueError, RuntimeError, OSError):
        raw.shutdown()


def _bucket_and_key(uri: str) -> tuple[str, str]:
    # No URL parsing: "?", "#" and "%" are ordinary characters of a key.
    bucket, _, key = uri[len("s3://") :].partition("/")
    if not bucket or not key:
        raise UsageError(f"{uri} names no object", hint="write s3://BUCKET/KEY")
    return bucket, key
