"""What only S3 can suffer: what breaks goes on at the exact next byte, what lasts is an error that says what to do."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
import pytest
from moto import mock_aws

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
from csv2kafka.model import Part, TextFormat
from csv2kafka.sources import open_source
from csv2kafka.sources.part import PartSource
from csv2kafka.sources.prefetch import ReadAhead
from csv2kafka.sources.s3 import Retries, S3Source, make_client
from csv2kafka.sources.text import TextSource
from tests.support.faulty_s3 import (
    Fault,
    FaultyS3,
    no_xml,
    other_etag,
    refused,
    reset,
    short_range,
    stalled,
    truncated,
    whole_object,
    wrong_range,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

URI = "s3://bucket/data.csv"
PART = 64
LANES = 3
BODY = os.urandom(10 * PART + 7)
SLOW_DOWN = refused(503, "SlowDown")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: FaultyS3) -> Iterator[S3Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        client = make_client()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def leave_nothing(server: FaultyS3) -> Iterator[None]:
    yield
    server.released.set()
    assert [thread for thread in threading.enumerate() if thread.name == "csv2kafka-prefetch"] == []


def opened(client: S3Client, *, lanes: int = LANES, part_bytes: int = PART, allowance: int = 4) -> S3Source:
    return S3Source(
        URI,
        client,
        ahead=ReadAhead(lanes=lanes, part_bytes=part_bytes, piece_bytes=16),
        retries=Retries(allowance=allowance, first_pause_s=0),
    )


def read(source: S3Source, offset: int = 0) -> bytes:
    return b"".join(source.read_from(offset))


def test_every_read_names_the_pinned_version(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, truncated(3))

    assert read(opened(client)) == BODY

    assert server.if_match == {server.etag}


@pytest.mark.parametrize(
    "fault",
    [
        truncated(0),
        truncated(1),
        truncated(40),
        reset(0),
        reset(40),
        SLOW_DOWN,
        refused(500, "InternalError"),
        refused(400, "RequestTimeout"),
        refused(429, "TooManyRequests"),
        no_xml,
        wrong_range,
        short_range,
    ],
)
def test_what_passes_is_tried_again(server: FaultyS3, client: S3Client, fault: Fault) -> None:
    server.serve(BODY, fault, *[fault] * 3)

    source = opened(client, allowance=6)
    assert read(source) == BODY
    assert 0 < source.failures <= 4  # some of these faults do no harm to a small part


def test_a_short_answer_goes_on_at_the_exact_next_byte(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, truncated(10), truncated(25), truncated(0))

    source = opened(client, lanes=1, part_bytes=1000)
    assert read(source, offset=100) == BODY[100:]
    assert source.failures == 3
    last = len(BODY) - 1
    assert server.ranges == [(100, last), (110, last), (135, last), (135, last)]


def test_the_allowance_is_of_failures_in_a_row(server: FaultyS3, client: S3Client) -> None:
    in_vain = [SLOW_DOWN, truncated(0), SLOW_DOWN]  # one less than the allowance
    server.serve(BODY, *in_vain, truncated(1), SLOW_DOWN, SLOW_DOWN, truncated(1), SLOW_DOWN, SLOW_DOWN)

    assert read(opened(client, lanes=1, part_bytes=1000, allowance=4)) == BODY


def test_a_spent_allowance_ends_the_read_after_all_bytes_before_it(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, truncated(20), *[SLOW_DOWN] * 4)
    chunks = opened(client, lanes=1, part_bytes=1000, allowance=4).read_from(0)

    assert next(chunks) + next(chunks) == BODY[:20]
    with pytest.raises(SourceUnavailable) as refusal:
        next(chunks)

    assert URI in refusal.value.message
    assert "bytes 20 to" in refusal.value.message
    assert refusal.value.message.endswith("SlowDown: because of the test")
    assert refusal.value.hint
    assert refusal.value.exit_code == 75


def test_what_ends_a_read_is_not_counted_as_made_again(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, *[SLOW_DOWN] * 3, refused(404, "NoSuchKey"), head_faults=[503])
    source = opened(client, lanes=1, allowance=3)

    assert source.failures == 1, "asking for its size"
    for error, count in ((SourceUnavailable, 3), (SourceMissing, 3)):
        with pytest.raises(error):
            read(source)
        assert source.failures == count


def test_what_was_made_again_is_known_to_whatever_stands_on_a_source(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, SLOW_DOWN)
    raw = opened(client)
    part = PartSource(raw, Part(0, 1, 10))
    assert part.read_at(1, 20) == BODY[1:10]
    assert part.failures == TextSource(raw, TextFormat()).failures == 1


def test_one_warning_an_incident(server: FaultyS3, client: S3Client, caplog: pytest.LogCaptureFixture) -> None:
    server.serve(BODY, SLOW_DOWN, SLOW_DOWN, SLOW_DOWN, truncated(20), SLOW_DOWN)

    with caplog.at_level(logging.DEBUG, "csv2kafka"):
        read(opened(client, lanes=1, part_bytes=1000))

    ours = [record for record in caplog.records if record.name.startswith("csv2kafka")]
    messages = [record.getMessage() for record in ours if record.levelno == logging.WARNING]
    details = [record.getMessage() for record in ours if record.levelno == logging.DEBUG]
    assert ["failed 2 times in a row" in details[0], "failed 3 times in a row" in details[1]] == [True, True]
    assert len(details) == 3
    assert len(messages) == 2
    assert f"bytes 0 to {len(BODY) - 1}" in messages[0]
    assert f"bytes 20 to {len(BODY) - 1}" in messages[1]


def test_pauses_grow_and_are_never_longer_than_the_longest(
    server: FaultyS3, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve(BODY, *[SLOW_DOWN] * 5)
    bounds: list[float] = []

    def shortest(low: float, high: float) -> float:
        bounds.append(high)
        return low

    monkeypatch.setattr("random.uniform", shortest)

    S3Source(URI, client, retries=Retries(allowance=6, first_pause_s=1, longest_pause_s=5)).read_at(0, 1)

    assert bounds == [1, 2, 4, 5, 5]


def test_a_server_without_ranges_is_refused(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, whole_object)

    with pytest.raises(SourceError, match="ranged reads") as refusal:
        read(opened(client), offset=PART)

    assert "AWS_ENDPOINT_URL" in refusal.value.hint
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("fault", "error", "hint"),
    [
        (refused(412, "PreconditionFailed"), SourceChanged, "--job-id NEW"),
        (refused(416, "InvalidRange"), SourceChanged, "--job-id NEW"),
        (other_etag, SourceChanged, "csv2kafka reset JOB"),
        (refused(404, "NoSuchKey"), SourceMissing, "bucket"),
        (refused(404, "NoSuchVersion"), SourceMissing, "bucket"),
        (refused(403, "AccessDenied"), Denied, "s3:GetObject"),
        (refused(400, "ExpiredToken"), Denied, "credentials"),
        (refused(403, "InvalidObjectState"), SourceError, "restore"),
        (refused(400, "InvalidRequest"), SourceError, "AWS_ENDPOINT_URL"),
    ],
)
def test_what_lasts_ends_the_read_at_once(
    server: FaultyS3, client: S3Client, fault: Fault, error: type[Csv2KafkaError], hint: str
) -> None:
    server.serve(BODY, fault)

    with pytest.raises(error) as refusal:
        read(opened(client, lanes=1))

    assert type(refusal.value) is error
    assert URI in refusal.value.message
    assert hint in refusal.value.hint
    assert len(server.ranges) == 1


def test_opening_waits_out_a_busy_server(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, head_faults=[503, 500, 503])

    assert opened(client).identity.size_bytes == len(BODY)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", Denied, ["s3:GetObject", "s3:ListBucket"]),
        (403, "InvalidAccessKeyId", Denied, ["credentials"]),
        (404, "NoSuchBucket", SourceMissing, ["bucket"]),
        (404, "NoSuchKey", SourceMissing, ["key"]),
    ],
)
def test_why_an_object_cannot_be_opened(
    server: FaultyS3, client: S3Client, status: int, code: str, error: type[Csv2KafkaError], words: list[str]
) -> None:
    server.serve(BODY, refused(status, code), head_faults=[status])

    with pytest.raises(error) as refusal:
        opened(client)

    for word in words:
        assert word in refusal.value.hint
    assert ("the bucket of" in refusal.value.message) == (code == "NoSuchBucket")


def test_connections_are_kept(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY)
    source = opened(client)

    for _ in range(5):
        read(source)

    assert len(server.ranges) == 5 * 11
    assert server.connections <= LANES + 1


def test_only_so_many_parts_are_fetched_ahead(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY)
    taken_bytes = 0

    for chunk in opened(client).read_from(0):
        taken_bytes += len(chunk)
        assert max(server.ranges)[0] < (taken_bytes // PART + LANES) * PART


def test_a_look_at_the_first_piece_asks_for_one_part(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY)
    chunks = opened(client).read_from(0)

    assert next(chunks) == BODY[:16]
    chunks.close()

    assert server.ranges == [(0, PART - 1)]


def test_nothing_is_fetched_behind_a_range(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY)

    assert b"".join(opened(client).read_range(5, PART + 10)) == BODY[5 : PART + 10]
    assert sorted(server.ranges) == [(5, PART + 4), (PART + 5, PART + 9)]


def test_leaving_ends_a_pause(server: FaultyS3, client: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    server.serve(BODY, truncated(16))
    pausing = threading.Event()

    def long(_low: float, _high: float) -> float:
        pausing.set()
        return 3600.0

    monkeypatch.setattr("random.uniform", long)
    chunks = opened(client, lanes=1).read_from(0)
    assert next(chunks) == BODY[:16]
    pausing.wait()

    chunks.close()


def test_leaving_wakes_reads_that_stall(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, *[stalled(32)] * LANES)
    chunks = opened(client).read_from(0)
    assert next(chunks) + next(chunks) == BODY[:32]

    chunks.close()  # the server still holds its answers back


def test_closing_the_source_wakes_who_waits_for_it(server: FaultyS3, client: S3Client) -> None:
    server.serve(BODY, stalled(16))
    source = opened(client, lanes=1)
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            read(source)
        except ValueError as error:
            outcome.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    server.stalled.wait()
    source.close()
    reader.join()

    assert "closed" in str(outcome[0]), "an end without an error would look like the end of the object"


def test_a_client_of_its_own_is_closed_with_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyS3() as server:  # one that no other client is connected to
        server.serve(BODY)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with open_source(URI) as source:
            assert b"".join(source.read_from(0)) == BODY
            assert connections_to(server) > 0
        assert connections_to(server) == 0


def connections_to(server: FaultyS3) -> int:
    """This process's sockets that lead to the server."""
    port = int(server.url.rpartition(":")[2])
    return sum(1 for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port == port)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*taken.getsockname()))
        client = make_client()
        with pytest.raises(SourceUnavailable) as refusal:
            S3Source(URI, client, close_client=True, retries=Retries(allowance=2, first_pause_s=0))

    assert "AWS_ENDPOINT_URL" in refusal.value.hint


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(Denied, match="credentials") as refusal:
        open_source(URI)

    assert "s3:GetObject" in refusal.value.hint


def test_an_unknown_profile() -> None:
    with pytest.raises(ConfigError, match="nobody") as refusal:
        open_source(URI, profile="nobody")

    assert "--profile" in refusal.value.hint


def test_a_malformed_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")

    with pytest.raises(ConfigError):
        open_source(URI)


@pytest.mark.parametrize("uri", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://no such bucket/key"])
def test_uris_that_name_no_object(client: S3Client, uri: str) -> None:
    with pytest.raises(UsageError) as refusal:
        open_source(uri, client=client)

    assert "s3://BUCKET/KEY" in refusal.value.hint


@pytest.fixture(scope="class")
def s3() -> Iterator[S3Client]:
    with mock_aws():
        client = make_client()
        client.create_bucket(Bucket="bucket")
        client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        yield client
        client.close()


class TestVersionedBucket:
    @pytest.fixture
    def key(self, s3: S3Client) -> str:
        """An object of which there is one version."""
        key = str(uuid.uuid4())
        s3.put_object(Bucket="bucket", Key=key, Body=b"old,1\n")
        return key

    def test_a_replaced_object_is_read_to_its_end(self, s3: S3Client, key: str) -> None:
        with open_source(f"s3://bucket/{key}", client=s3) as source:
            s3.put_object(Bucket="bucket", Key=key, Body=b"new,1\n")

            assert list(source) == [b"old,1\n"]

    def test_the_expected_version_is_opened_although_there_is_a_newer_one(self, s3: S3Client, key: str) -> None:
        expected = open_source(f"s3://bucket/{key}", client=s3).identity
        s3.put_object(Bucket="bucket", Key=key, Body=b"new,1\n")
        s3.delete_object(Bucket="bucket", Key=key)

        with open_source(f"s3://bucket/{key}", client=s3, expected=expected) as source:
            assert source.identity == expected
            assert expected.version_id
            assert list(source) == [b"old,1\n"]

    def test_a_deleted_version_gives_way_to_the_same_bytes_alone(self, s3: S3Client, key: str) -> None:
        expected = open_source(f"s3://bucket/{key}", client=s3).identity
        assert expected.version_id
        s3.put_object(Bucket="bucket", Key=key, Body=b"old,1\n")
        s3.delete_object(Bucket="bucket", Key=key, VersionId=expected.version_id)
        with open_source(f"s3://bucket/{key}", client=s3, expected=expected) as source:
            assert source.identity.version_id != expected.version_id
            assert list(source) == [b"old,1\n"]

        s3.put_object(Bucket="bucket", Key=key, Body=b"new,1\n")
        s3.delete_object(Bucket="bucket", Key=key, VersionId=source.identity.version_id or "")
        with pytest.raises(SourceChanged):
            open_source(f"s3://bucket/{key}", client=s3, expected=expected)
