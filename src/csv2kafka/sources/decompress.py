"""Compressed bytes -> plain bytes, member by member: gzip, zstd, bz2, xz, lz4. No I/O, and no text.

A member (gzip's and LZ4's word; a frame, a stream elsewhere) can be read without the ones before it, so reading may
begin anew at its first byte. Files of several members (bgzip, pzstd, `cat a.gz b.gz`) are one stream, as for gunzip.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import lz4.frame
import zstandard
from isal import igzip_lib

from csv2kafka.errors import BadData
from csv2kafka.sources.pieces import Piece

_PIECE_BYTES = 1 << 20
_FEED_BYTES = 128 << 10
_ZSTD_FEED_BYTES = 8 << 10  # it gives out all that it has: at most 128 KiB for every 4 bytes
_MAY_BE_PADDED = frozenset({"gzip", "xz"})  # with zero bytes, behind a member
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, lzma.LZMAError, igzip_lib.error, zstandard.ZstdError)


class _Member(Protocol):
    """How Python's own bz2 and lzma spell it."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes: ...


class _ZstdFrame:
    """zstandard's object in that spelling; `max_length` it does not know, which small feeds make up for."""

    needs_input = True

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        plain = self._frame.decompress(data)
        self.eof, self.unused_data = self._frame.eof, self._frame.unused_data
        return plain


_NEW: dict[str, Callable[[], _Member]] = {
    "gzip": lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
    "zstd": _ZstdFrame,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ),
    "lz4": lz4.frame.LZ4FrameDecompressor,
}
CODECS = tuple(_NEW)


def decompress(codec: str, chunks: Iterable[bytes], start_byte: int, uri: str) -> Iterator[Piece]:
    """The plain bytes of the members from `start_byte` on, where a member begins.

    Raises BadData, after everything before it, for a damaged member, one that is cut short, and no member at all.
    """
    feed_bytes = _ZSTD_FEED_BYTES if codec == "zstd" else _FEED_BYTES
    member: _Member | None = None
    member_byte = start_byte  # where the next member begins
    fed_byte = start_byte
    restart: int | None = None
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if member is None:
                rest, fed_byte = _skip_padding(codec, rest, fed_byte, is_first=fed_byte == start_byte)
                if not rest:
                    break
                member, member_byte, restart = _NEW[codec](), fed_byte, fed_byte
            feed, rest = rest[:feed_bytes], rest[feed_bytes:]
            fed_byte += len(feed)
            for data in _plain(codec, member, feed, fed_byte, uri):
                yield Piece(data, restart, fed_byte)
                restart = None
            if member.eof:
                unused = member.unused_data
                fed_byte -= len(unused)
                rest = memoryview(unused + bytes(rest)) if unused else rest
                member = None
    if member is not None or fed_byte == start_byte:
        what = f"in the middle of a {codec} member that began at byte {member_byte}" if member else "without any data"
        raise BadData(
            f"{uri} ends {what}: it was cut short",
            hint="Everything before is safe. Get a whole copy of the file (its producer, the upload) and load it as a new "
            "job: a mended file is another object.",
        )


def _plain(codec: str, member: _Member, feed: memoryview, fed_byte: int, uri: str) -> Iterator[bytes]:
    """All that the member gives for these bytes, in pieces that fit into memory."""
    given: bytes | memoryview = feed
    while True:
        try:
            data = member.decompress(given, _PIECE_BYTES)
        except _DAMAGED as error:
            raise BadData(
                f"{uri} is damaged: its {codec} data make no sense near byte {fed_byte} ({error})",
                hint="Everything before is safe. Test the file (gzip -t, zstd -t ...), get a sound copy, and load it as a "
                "new job: a mended file is another object.",
            ) from None
        if data:
            yield data
        if member.eof or member.needs_input:
            return
        given = b""


def _skip_padding(codec: str, rest: memoryview, at_byte: int, *, is_first: bool) -> tuple[memoryview, int]:
    if codec not in _MAY_BE_PADDED or is_first or rest[0] != 0:
        return rest, at_byte
    stripped = bytes(rest).lstrip(b"\0")
    return memoryview(stripped), at_byte + len(rest) - len(stripped)
