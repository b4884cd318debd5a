"""Where the bytes come from: the protocol, the opener, and what every source shares. One file for each source.

No vendor SDK here, and no CSV: a source hands out bytes of one pinned version of one object, of which text.py makes
UTF-8.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from csv2kafka.errors import SourceChanged, UsageError
from csv2kafka.model import Restart, SourceIdentity

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Source", "check_offset", "lines_of", "open_source", "refuse_changed"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Source(Protocol):
    """One version of one object. Reads may run side by side and in any thread; each generator in one at a time.

    Iterating over a source gives its lines, as an open file does: bytes, each with its newline.
    """

    identity: SourceIdentity

    @property
    def failures(self) -> int:
        """How often a read failed so far and was made again, unseen by whoever reads."""
        return 0

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        """Yield the bytes from exactly `offset_bytes` (0 to size) to the end, in order, in chunks of some MiB at most.

        Closing the generator early ends all its work. A full read yields exactly the pinned size.
        Raises SourceChanged, SourceMissing, SourceUnavailable, Denied.
        """
        ...

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset_bytes` on, fewer only at the end: for a look, without read-ahead.

        Raises as `read_from` does.
        """
        ...

    def read_range(self, start_byte: int, end_byte: int) -> Generator[bytes, None, None]:
        """As `read_from`, but only to `end_byte`."""
        left_bytes = end_byte - start_byte
        with closing(self.read_from(start_byte)) as chunks:
            while left_bytes > 0 and (chunk := next(chunks, None)) is not None:
                yield chunk[:left_bytes]
                left_bytes -= len(chunk)

    def restart_before(self, offset_bytes: int) -> Restart | None:
        """The nearest place known at or before `offset_bytes` at which reading may begin; None: each is as good."""
        return None

    def object_bytes(self, offset_bytes: int) -> int:
        """How far the object was read for the text up to `offset_bytes`, as far as is known."""
        return offset_bytes

    @property
    def object_size_bytes(self) -> int:
        """What `object_bytes` comes to."""
        return self.identity.size_bytes

    @property
    def start_byte(self) -> int:
        """Of the text, where that which is to be loaded begins."""
        return 0

    def close(self) -> None:
        """Let go of everything. A read that still runs raises ValueError at its next chunk."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return lines_of(self.read_from(0))


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield the lines of a stream of chunks, however long, each ending in its `\n` but perhaps the last."""
    begun: list[bytes] = []
    for chunk in chunks:
        for line in io.BytesIO(chunk):
            begun.append(line)
            if line.endswith(b"\n"):
                yield begun[0] if len(begun) == 1 else b"".join(begun)
                begun.clear()
    if begun:
        yield b"".join(begun)


def check_offset(offset_bytes: int, identity: SourceIdentity) -> None:
    """Raise ValueError for an offset outside the object: a caller's mistake, never the object's."""
    if not 0 <= offset_bytes <= identity.size_bytes:
        raise ValueError(f"byte {offset_bytes} lies outside {identity.uri}, which has {identity.size_bytes} bytes")


def open_source(
    uri: str,
    *,
    expected: SourceIdentity | None = None,
    region: str | None = None,
    profile: str | None = None,
    client: S3Client | None = None,
) -> Source:
    """Open `s3://bucket/key`, `file://` or a path, and pin the version found: nothing else is ever read from it.

    With `expected` (what a job began with) the same bytes must still be there: the object's size and ETag count, not
    its name. An expected version of a versioned bucket is opened although a newer one exists.
    `region`, `profile` and `client` (a ready S3 client, left open) concern S3 alone.
    The bytes are the object's: what is compressed or in another encoding, `text.as_text` makes readable.
    Raises SourceMissing, SourceChanged, SourceUnavailable, Denied, UsageError, ConfigError.
    """
    source = _open(uri, expected, region, profile, client)
    try:
        if expected is not None:
            refuse_changed(expected, source.identity)
    except BaseException:
        source.close()
        raise
    return source


def _open(
    uri: str, expected: SourceIdentity | None, region: str | None, profile: str | None, client: S3Client | None
) -> Source:
    # Imported here: boto3 takes a third of a second, which a local file should not wait for.
    scheme = _SCHEME.match(uri)
    if scheme is None or scheme[1].lower() == "file":
        from csv2kafka.sources.local import LocalSource  # noqa: PLC0415

        return LocalSource(uri)
    if scheme[1].lower() == "s3":
        from csv2kafka.sources.s3 import S3Source, make_client  # noqa: PLC0415

        version_id = expected.version_id if expected else None
        own_client = client is None
        return S3Source(uri, client or make_client(region, profile), version_id=version_id, close_client=own_client)
    raise UsageError(
        f"{uri}: {scheme[1]}:// is no source that can be read",
        hint="give s3://BUCKET/KEY, file:///PATH or a path",
    )


def refuse_changed(expected: SourceIdentity, found: SourceIdentity) -> None:
    """Raise SourceChanged where the two are not of the same bytes."""
    if (expected.size_bytes, expected.etag) == (found.size_bytes, found.etag):
        return
    raise SourceChanged(
        f"{found.uri} changed since its load began: it had {expected.size_bytes} bytes and ETag {expected.etag}, "
        f"now it has {found.size_bytes} bytes and ETag {found.etag}",
        hint="load the new object as a job of its own with --job-id NEW; or put the old object back and run the same "
        "command again; or forget the old job with `csv2kafka reset JOB` and begin again",
    )
