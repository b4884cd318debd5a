"""What every source promises, asked of each of them: exact bytes from any offset, one pinned version, no leaks.

Those that make text of another source promise the same of the text. What one source alone can suffer is in
test_source_local.py, test_source_s3.py and test_source_text.py.
"""

from __future__ import annotations

import gzip
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from moto import mock_aws

from csv2kafka.errors import SourceChanged, SourceMissing
from csv2kafka.model import SourceIdentity, TextFormat
from csv2kafka.sources import Source, lines_of, open_source
from csv2kafka.sources.local import LocalSource
from csv2kafka.sources.prefetch import ReadAhead
from csv2kafka.sources.s3 import S3Source, make_client
from csv2kafka.sources.text import TextSource

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART = 64
PIECE = 16
BUCKET = "bucket"
BODY = b"".join(b"%d,name %d\r\n" % (row, row) for row in range(60))  # 12 parts and a bit


class Backend(Protocol):
    """One kind of source: an object that can be written, and opened."""

    uri: str

    def write(self, body: bytes) -> None: ...

    def remove(self) -> None: ...

    def open(self, expected: SourceIdentity | None = None) -> Source: ...

    def open_small(self) -> Source:
        """With chunks of PIECE bytes, on S3 in parts of PART bytes."""
        ...


class LocalBackend:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "data.csv"
        self._writes = 0
        self.uri = str(self._path)

    def write(self, body: bytes) -> None:
        self._path.write_bytes(body)
        self._writes += 1
        # Two writes may come within one tick of the file system's clock.
        os.utime(self._path, ns=(self._writes, self._writes))

    def remove(self) -> None:
        self._path.unlink()

    def open(self, expected: SourceIdentity | None = None) -> Source:
        return open_source(self.uri, expected=expected)

    def open_small(self) -> Source:
        return LocalSource(self.uri, chunk_bytes=PIECE)


class S3Backend:
    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._key = f"{uuid.uuid4()}/data 100%?#.csv"
        self.uri = f"s3://{BUCKET}/{self._key}"

    def write(self, body: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=self._key, Body=body)

    def remove(self) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=self._key)

    def open(self, expected: SourceIdentity | None = None) -> Source:
        return open_source(self.uri, expected=expected, client=self._client)

    def open_small(self) -> Source:
        ahead = ReadAhead(lanes=3, part_bytes=PART, piece_bytes=PIECE)
        return S3Source(self.uri, self._client, ahead=ahead)


@pytest.fixture(scope="module")
def s3_client() -> Iterator[S3Client]:
    """One for all tests here, with a bucket: making a client takes longer than any of them."""
    with mock_aws():
        client = make_client()
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


@pytest.fixture(params=["local", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        return LocalBackend(tmp_path)
    return S3Backend(request.getfixturevalue("s3_client"))


@pytest.fixture
def source(backend: Backend) -> Iterator[Source]:
    backend.write(BODY)
    with backend.open_small() as source:
        yield source


@pytest.fixture(params=["plain", "gzip", "utf-16"])
def text(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Source]:
    """BODY as a plain, a compressed or a transcoded object holds it."""
    if request.param == "plain":
        backend.write(BODY)
        with backend.open_small() as source:
            yield source
        return
    if request.param == "gzip":
        text_format = TextFormat("gzip")
        backend.write(gzip.compress(BODY[:300]) + gzip.compress(BODY[300:]))
    else:
        text_format = TextFormat(None, "utf-16-le")
        backend.write(BODY.decode().encode("utf-16"))
    with TextSource(backend.open_small(), text_format, apart_bytes=1) as source:
        yield source


def prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "csv2kafka-prefetch"]


@pytest.mark.parametrize(
    "offset",
    [0, 1, PIECE - 1, PIECE, PART - 1, PART, PART + 1, 3 * PART, len(BODY) // 2, len(BODY) - 1, len(BODY)],
)
def test_reading_begins_at_exactly_the_offset(text: Source, offset: int) -> None:
    chunks = list(text.read_from(offset))

    assert b"".join(chunks) == BODY[offset:]
    assert all(chunks)
    assert text.object_bytes(0) == 0
    assert text.object_bytes(len(BODY)) == text.identity.size_bytes
    place = text.restart_before(offset)
    assert place is None or place.text_byte <= offset


@pytest.mark.parametrize("start", [0, PIECE - 1, PART + 1, 3 * PART])
@pytest.mark.parametrize("size", [0, 1, PIECE, PART, 2 * PART + 1])
def test_a_range_ends_at_exactly_its_end(text: Source, start: int, size: int) -> None:
    chunks = list(text.read_range(start, start + size))

    assert b"".join(chunks) == BODY[start : start + size]
    assert all(chunks)


def test_chunks_are_as_small_as_asked_for(source: Source) -> None:
    assert max(map(len, source.read_from(0))) == PIECE


@pytest.mark.parametrize("offset", [-1, len(BODY) + 1])
def test_an_offset_outside_the_object_is_the_callers_mistake(source: Source, offset: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        source.read_from(offset)
    with pytest.raises(ValueError, match="outside"):
        source.read_at(offset, 1)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, 5), (3, PIECE + PART), (len(BODY) - 2, 50), (len(BODY), 1), (0, 10 * len(BODY))]
)
def test_a_look_reads_just_that(text: Source, offset: int, size: int) -> None:
    assert text.read_at(offset, size) == BODY[offset : offset + size]


@pytest.mark.parametrize("size", [1, PIECE, PART, PART + 1, 3 * PART, 3 * PART + 1])
def test_objects_as_long_as_their_parts(backend: Backend, size: int) -> None:
    backend.write(BODY[:size])

    with backend.open_small() as source:
        assert b"".join(source.read_from(0)) == BODY[:size]


def test_an_empty_object_has_no_bytes(backend: Backend) -> None:
    backend.write(b"")

    with backend.open() as source:
        assert source.identity.size_bytes == 0
        assert list(source.read_from(0)) == []
        assert source.read_at(0, 10) == b""
        assert list(source) == []


def test_several_reads_side_by_side(source: Source) -> None:
    pairs = list(zip(source.read_from(0), source.read_from(PIECE), strict=False))

    assert b"".join(first for first, _ in pairs[1:]) == b"".join(second for _, second in pairs[:-1])


def test_lines_keep_their_newlines(text: Source) -> None:
    assert list(text) == BODY.splitlines(keepends=True)
    assert list(text) == BODY.splitlines(keepends=True), "each iteration begins again"


def test_a_line_may_span_chunks_and_the_last_may_lack_its_newline() -> None:
    assert list(lines_of([b"a", b"", b"b\n\nc\rd", b"e", b"\n", b"f"])) == [b"ab\n", b"\n", b"c\rde\n", b"f"]
    assert list(lines_of([])) == []


def test_the_same_object_has_the_same_identity(backend: Backend) -> None:
    backend.write(BODY)
    with backend.open() as first, backend.open(first.identity) as second:
        assert first.identity == second.identity
        assert first.identity.size_bytes == len(BODY)
        assert first.identity.etag
        assert first.identity.uri.endswith("data.csv") or first.identity.uri == backend.uri


@pytest.mark.parametrize("body", [BODY + b"60,more\r\n", BODY.upper()], ids=["longer", "same size"])
def test_another_object_than_expected_is_refused(backend: Backend, body: bytes) -> None:
    backend.write(BODY)
    with backend.open() as source:
        expected = source.identity
    backend.write(body)
    with backend.open() as source:
        found = source.identity

    with pytest.raises(SourceChanged) as refusal:
        backend.open(expected)

    for part in (backend.uri, expected.etag, found.etag, str(len(BODY)), str(len(body))):
        assert part in refusal.value.message
    for choice in ("--job-id NEW", "csv2kafka reset JOB", "put the old object back"):
        assert choice in refusal.value.hint
    assert refusal.value.exit_code == 66


def test_an_object_replaced_during_a_read_ends_it_without_a_foreign_byte(backend: Backend) -> None:
    backend.write(BODY)
    got = b""

    def read() -> None:
        nonlocal got
        with backend.open_small() as source:
            for number, chunk in enumerate(source.read_from(0)):
                got += chunk
                if number == 0:
                    backend.write(BODY.upper())

    with pytest.raises(SourceChanged) as refusal:
        read()

    assert BODY.startswith(got)
    assert 0 < len(got) < len(BODY)
    assert refusal.value.hint


def test_a_missing_object(backend: Backend) -> None:
    with pytest.raises(SourceMissing) as refusal:
        backend.open()

    assert backend.uri in refusal.value.message
    assert refusal.value.hint
    assert refusal.value.exit_code == 66


def test_a_removed_object_is_missing_for_who_expects_it(backend: Backend) -> None:
    backend.write(BODY)
    with backend.open() as source:
        expected = source.identity
    backend.remove()

    with pytest.raises(SourceMissing):
        backend.open(expected)


def test_leaving_early_leaves_nothing_behind(backend: Backend) -> None:
    backend.write(BODY)
    descriptors = len(os.listdir("/proc/self/fd"))
    with backend.open_small() as source:
        chunks = source.read_from(5)
        assert next(chunks) + next(chunks) == BODY[5 : 5 + 2 * PIECE]

        chunks.close()

        assert prefetchers() == []
        assert b"".join(source.read_from(0)) == BODY, "the source itself is still open"
        assert prefetchers() == [], "a read to the end leaves none either"
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_closing_the_source_ends_a_running_read(text: Source) -> None:
    chunks = text.read_from(0)
    next(chunks)

    text.close()

    with pytest.raises(ValueError, match="closed"):
        list(chunks)
    assert prefetchers() == []


def test_a_closed_source_cannot_be_read(text: Source) -> None:
    text.close()
    text.close()

    with pytest.raises(ValueError, match="closed"):
        list(text.read_from(0))


def test_leaving_a_text_early_leaves_nothing_behind(text: Source) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    chunks = text.read_from(5)
    assert BODY[5:].startswith(next(chunks))

    chunks.close()

    assert prefetchers() == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
