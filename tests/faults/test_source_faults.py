"""S3 that fails, breaks off, changes and lies, files that change, rows that are none: exactly, or a clear stop."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from csv2kafka.devbroker import Broker
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.http_proxy import (
    Fault,
    HttpProxy,
    Request,
    answer,
    asks,
    cut_request,
    drop_response,
    during,
    reset_after,
    s3_error,
    short_body,
    silent,
    stall_after,
    without_range,
)
from tests.support.processes import Children

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

KEY = "data.csv"
HEADER_BYTES = len("id,name\n")
BAD_DATA, BAD_SOURCE, TRY_AGAIN = 65, 66, 75


class S3Load:
    """A load from an object of a bucket of its own, through a proxy."""

    def __init__(self, proxy: HttpProxy, s3: S3Client, start: Callable[..., CliLoad], **options: int) -> None:
        self.proxy, self.s3, self.bucket = proxy, s3, f"bucket-{uuid.uuid4().hex[:12]}"
        s3.create_bucket(Bucket=self.bucket)
        self.load = start(
            source=f"s3://{self.bucket}/{KEY}",
            env={"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "1"},
            **options,
        )
        self.original = self.load.path.read_bytes()
        self.put()

    def put(self, body: bytes | None = None) -> str | None:
        """Store the original, or something else, as the object; its version where the bucket has versions."""
        return self.s3.put_object(Bucket=self.bucket, Key=KEY, Body=body or self.original).get("VersionId")

    def replace(self) -> None:
        """Another object of the same size."""
        self.put(self.original.replace(b",name ", b",nome "))

    def delete(self, **version: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=KEY, **version)  # type: ignore[arg-type]

    def keep_versions(self) -> str:
        """Have the bucket keep all versions from now on; the version of the object as it is then."""
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        version = self.put()
        assert version
        return version

    def half_way(self, fault: Fault) -> None:
        """Break the read of the rows, then let some through, and play the fault at the request for the rest."""
        # The first break makes the reader cautious: it keeps what it got from then on, 64 KiB at a time.
        for step in (reset_after(1), reset_after(200_000), fault):
            self.proxy.next(step, when=asks_for_rows)


def asks_for_rows(request: Request) -> bool:
    """Not the looks at the object's first bytes, which come before."""
    return request.operation == "GetObject" and not request.headers["range"].startswith("bytes=0-")


@pytest.fixture
def proxy(moto_server: str) -> Iterator[HttpProxy]:
    with HttpProxy(moto_server) as running:
        yield running


@pytest.fixture
def start(broker: Broker, make_topic: Callable[..., str], children: Children, tmp_path: Path) -> Callable[..., CliLoad]:
    """Makes a CliLoad with a topic and a folder of its own."""

    def start(**options: object) -> CliLoad:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        return CliLoad(children, broker.bootstrap, make_topic(config=SMALL_BATCHES), folder, **options)  # type: ignore[arg-type]

    return start


@pytest.fixture
def case(proxy: HttpProxy, moto_server: str, start: Callable[..., CliLoad]) -> S3Load:
    return S3Load(proxy, boto3.client("s3", endpoint_url=moto_server), start)


FAILURES = [
    s3_error(500, "InternalError"),
    s3_error(503, "SlowDown"),
    answer(502, b"<html>a proxy's page</html>", "text/html"),
    cut_request(),
    drop_response(),
]


@pytest.mark.parametrize("fault", FAILURES, ids=["500", "SlowDown", "502 page", "cut request", "dropped response"])
def test_requests_that_fail_are_asked_again(case: S3Load, fault: Fault) -> None:
    case.proxy.next(fault, times=2, when=asks("HeadObject"))
    case.proxy.next(fault, times=2, when=asks_for_rows)
    case.load.assert_goes_on()
    assert case.proxy.played[fault.name] == 4


def test_answers_that_break_go_on_at_the_next_byte(case: S3Load) -> None:
    faults = [
        reset_after(0),
        short_body(0),
        short_body(1),
        reset_after(100_003),
        short_body(65_537),
        reset_after(70_001),
    ]
    for fault in faults:
        case.proxy.next(fault, when=asks_for_rows)
    case.load.assert_goes_on()
    assert case.proxy.played.total() == len(faults)
    starts = [
        int(request.headers["range"][6:].split("-")[0]) for request in case.proxy.requests if asks_for_rows(request)
    ]
    assert starts == sorted(starts)
    assert starts[0] == HEADER_BYTES < starts[-1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [silent(), stall_after(0), stall_after(100_000)], ids=["silent", "head", "part"])
def test_an_answer_that_stalls_is_given_up(case: S3Load, fault: Fault) -> None:
    """Slow because a server gets 20 s to say the next byte."""
    case.proxy.next(fault, when=asks_for_rows)
    case.load.assert_goes_on()
    assert case.proxy.played == {fault.name: 1}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_most_answers_break(proxy: HttpProxy, moto_server: str, start: Callable[..., CliLoad], seed: int) -> None:
    """Slow because only an object of several parts is read by several requests side by side."""
    case = S3Load(proxy, boto3.client("s3", endpoint_url=moto_server), start, rows=1_500_000)
    rng = random.Random(seed)

    def breaks(request: Request) -> Fault | None:
        if not asks_for_rows(request) or rng.random() < 0.1:
            return None
        return rng.choice([rng.choice(FAILURES), *(cut(rng.randrange(1 << 20)) for cut in (reset_after, short_body))])

    proxy.rule = breaks
    case.load.assert_goes_on()
    assert proxy.played.total() >= 10


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run(case: S3Load) -> None:
    """Slow because ten attempts, with longer and longer pauses, come before that."""
    case.half_way(during(case.proxy.outage))
    case.load.run().assert_failed(TRY_AGAIN, "10 times in a row", "run the same command again")
    assert case.load.assert_prefix(at_least=1) < len(case.load.values)
    case.proxy.heal()
    case.load.assert_goes_on()


def test_an_object_replaced_while_it_is_read(case: S3Load) -> None:
    case.half_way(during(case.replace))
    case.load.run().assert_failed(BAD_SOURCE, "is no longer what this job reads", "put that object back")
    sent = case.load.assert_prefix(at_least=1)
    assert sent < len(case.load.values)
    case.load.run().assert_failed(BAD_SOURCE, "changed since its load began", "--job-id NEW")
    assert case.load.assert_prefix() == sent
    case.put()
    case.load.assert_goes_on()


def test_an_object_replaced_in_a_bucket_with_versions(case: S3Load) -> None:
    """The version that the job began with is read to its end, whether replaced between two runs or in one."""
    case.keep_versions()
    case.load.crash_at("batch_acked", 10)
    case.replace()
    case.half_way(during(case.replace))
    case.load.assert_goes_on()
    assert case.proxy.played["during"] == 1


def test_an_object_deleted_while_it_is_read(case: S3Load) -> None:
    case.half_way(during(case.delete))
    case.load.run().assert_failed(BAD_SOURCE, f"{case.load.source} does not exist", "put back")
    sent = case.load.assert_prefix(at_least=1)
    case.load.run().assert_failed(BAD_SOURCE, f"{case.load.source} does not exist")
    assert case.load.assert_prefix() == sent < len(case.load.values)
    case.put()
    case.load.assert_goes_on()


def test_an_object_deleted_in_a_bucket_with_versions(case: S3Load) -> None:
    """A delete marker hides the version from everybody but the job; one that is really gone is missing."""
    version = case.keep_versions()
    case.half_way(during(case.delete, reset_after(70_000)))
    case.proxy.next(during(lambda: case.delete(VersionId=version)), when=asks_for_rows)
    case.load.run().assert_failed(BAD_SOURCE, "does not exist")
    assert case.proxy.played["during"] == 2
    assert 0 < case.load.assert_prefix(at_least=1) < len(case.load.values)
    case.put()  # the same bytes as a new version
    case.load.assert_goes_on()


def test_a_server_that_ignores_ranges_is_refused(case: S3Load) -> None:
    """From the first request for rows on, nothing may be sent; half way, nothing twice."""
    case.proxy.next(without_range(), when=asks_for_rows)
    case.load.run().assert_failed(BAD_SOURCE, "ignores ranged reads", "AWS_ENDPOINT_URL")
    assert case.load.assert_prefix() == 0
    case.half_way(without_range())
    case.load.run().assert_failed(BAD_SOURCE, "ignores ranged reads", "AWS_ENDPOINT_URL")
    assert 0 < case.load.assert_prefix(at_least=1) < len(case.load.values)
    case.load.assert_goes_on()


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_a_file_that_changes_while_it_is_read(start: Callable[..., CliLoad], change: str) -> None:
    load = start(rows=200_000)  # more than is read ahead of the pause
    with load.paused_at("batch_acked", 5):
        original = load.path.read_bytes()
        stat = load.path.stat()
        load.path.write_bytes(original + b"1,more\n" if change == "longer" else original[:-100_000])
    load.wait().assert_failed(BAD_SOURCE, "was changed while it was read", "--job-id NEW")
    assert 0 < load.assert_prefix(at_least=1) < len(load.values)
    load.path.write_bytes(original)
    os.utime(load.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    load.assert_goes_on()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"20000\n", "has 1 field where the header has 2"),
        (b"20000,name,more\n", "has 3 fields where the header has 2"),
        (b"20000,n\xe4me\n", "is not valid UTF-8"),
        (b'20000,"name\n', "has a quote that is never closed"),
        (b"20000," + random.Random(0).randbytes(30_000).hex().encode() + b"\n", "max.message.bytes (20000)"),
    ],
    ids=["short", "long", "not UTF-8", "unclosed quote", "too large"],
)
def test_a_malformed_row_stops_before_it(start: Callable[..., CliLoad], row: bytes, reason: str) -> None:
    """And once it is mended, the whole file loads as a job of its own, into a topic of its own."""
    load = start()
    rows = load.path.read_bytes().splitlines(keepends=True)
    at = 20_000
    mended = rows[at + 1]
    load.path.write_bytes(b"".join([*rows[: at + 1], row, *rows[at + 2 :]]))
    load.run().assert_failed(BAD_DATA, f"row {at + 1} ", reason, "the job's rows before it are safe")
    assert load.assert_prefix() == at

    again = start(options=("--job-id", "mended"), checkpoint=load.checkpoint)
    assert again.path.read_bytes().splitlines(keepends=True)[at + 1] == mended
    again.assert_goes_on()
