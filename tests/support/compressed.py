"""Compressed files of one or several members and text in other encodings, made by other libraries' writers."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Generator, Iterable

import lz4.frame
import zstandard

from csv2kafka.model import SourceIdentity
from csv2kafka.sources import Source, check_offset


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(body)


def _lz4(body: bytes) -> bytes:
    return bytes(lz4.frame.compress(body, content_checksum=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": _zstd,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lz4": _lz4,
}
ENCODINGS = ("utf-8", "latin-1", "cp1252", "utf-16-le", "utf-16-be")


def compressed(codec: str, parts: Iterable[bytes]) -> bytes:
    """A file of one member for each part."""
    return b"".join(map(COMPRESS[codec], parts))


class MemorySource(Source):
    """Bytes as a source, cut into chunks of a chosen size; counts what was read."""

    def __init__(self, body: bytes, chunk_bytes: int = 1 << 20, uri: str = "memory") -> None:
        self.identity = SourceIdentity(uri, len(body), "etag")
        self.reads: list[int] = []  # where each began
        self.bytes_read = 0
        self.open_reads = 0
        self._body = body
        self._chunk_bytes = chunk_bytes
        self._is_closed = False

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        check_offset(offset_bytes, self.identity)
        return self._chunks(offset_bytes)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self._body[offset_bytes : offset_bytes + size_bytes]

    def close(self) -> None:
        self._is_closed = True

    def _chunks(self, offset_bytes: int) -> Generator[bytes, None, None]:
        self.reads.append(offset_bytes)
        self.open_reads += 1
        try:
            for start in range(offset_bytes, len(self._body), self._chunk_bytes):
                if self._is_closed:
                    raise ValueError("closed")
                chunk = self._body[start : start + self._chunk_bytes]
                self.bytes_read += len(chunk)
                yield chunk
        finally:
            self.open_reads -= 1
