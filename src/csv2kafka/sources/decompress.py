"""Compressed bytes -> plain bytes, member by member: gzip, zstd, bz2, xz, lz4. No I/O, and no text.

A member (gzip's word; a frame or a stream elsewhere) can be read without the ones before it, so reading may begin anew
at its first byte. Files of several members (bgzip, pzstd, `cat a.gz b.gz`) are one stream, as for gunzip.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import lz4.frame
from isal import igzip_lib

from csv2kafka.errors import BadData
from csv2kafka.sources.pieces import Piece

try:
    from backports import zstd
except ImportError:  # a part of Python from 3.14 on
    from compression import zstd  # type: ignore[import-not-found, no-redef]

_PIECE_BYTES = 1 << 20
_PROVEN_BYTES = 1 << 20
_FEED_BYTES = 64 << 10  # what lies behind a member's end is copied once: not much more than a small member
_MAY_BE_PADDED = frozenset({"gzip", "xz"})  # with zero bytes, behind a member
_DAMAGED: tuple[type[Exception], ...] = (  # type: ignore[assignment]  # isal's stub takes its error for an instance
    *(OSError, EOFError, RuntimeError, ValueError),
    *(lzma.LZMAError, igzip_lib.error, zstd.ZstdError),
)
_GZIP = b"\x1f\x8b\x08"
_LONGEST_HEADER_BYTES = 1 << 20  # of damaged ones: a file's name may seem to go on for ever
_WIDE_WINDOW = "too much memory"  # libzstd's words


class _Member(Protocol):
    """How Python's own bz2 and lzma spell it, and the others after them."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes: ...


class _GzipMember:
    """isal's object, given each header whole: it misreads one with several optional fields that comes in pieces."""

    def __init__(self) -> None:
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._header: bytes | None = b""  # as far as it came; None: it went by
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        if self._header is not None:
            self._header += data
            if not _is_whole_gzip_header(self._header) and len(self._header) < _LONGEST_HEADER_BYTES:
                return b""
            data, self._header = self._header, None
        plain = self._member.decompress(data, max_length)
        self.eof, self.needs_input = self._member.eof, self._member.needs_input
        if self.eof:
            self.unused_data = self._member.unused_data
        return plain


def _is_whole_gzip_header(data: bytes) -> bool:
    """Also for what is no gzip at all: there is nothing to wait for (RFC 1952)."""
    if not data.startswith(_GZIP[: len(data)]):
        return True
    if len(data) < 12:
        return False
    flags, end = data[3], 10
    if flags & 0x04:
        end += 2 + int.from_bytes(data[10:12], "little")
    for has_text in (flags & 0x08, flags & 0x10):
        if has_text:
            end = data.find(b"\0", end) + 1
            if end == 0:
                return False
    return len(data) >= end + (2 if flags & 0x02 else 0)


_NEW: dict[str, Callable[[], _Member]] = {
    "gzip": _GzipMember,
    "zstd": zstd.ZstdDecompressor,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ),
    "lz4": lz4.frame.LZ4FrameDecompressor,
}
CODECS = tuple(_NEW)


def decompress(codec: str, chunks: Iterable[bytes], start_byte: int, uri: str) -> Iterator[Piece]:
    """The plain bytes of the members from `start_byte` on, where a member begins.

    Raises BadData for a damaged member, one that is cut short, and no member at all: after all members before it, and
    pieces of this one. A member of up to _PROVEN_BYTES of text is given only when its checksum was right.
    """
    held: list[Piece] = []
    member: _Member | None = None
    member_byte = start_byte  # where this member, or the last one, begins
    at_byte = start_byte
    restart: int | None = None
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if member is None:
                if codec in _MAY_BE_PADDED and at_byte > start_byte and rest[0] == 0:
                    zeros = len(rest) - len(bytes(rest).lstrip(b"\0"))
                    rest, at_byte = rest[zeros:], at_byte + zeros
                    continue
                member, member_byte, restart = _NEW[codec](), at_byte, at_byte
            feed = rest[:_FEED_BYTES]
            for data in _plain(codec, member, feed, member_byte, at_byte, uri):
                held.append(Piece(data, restart, at_byte + len(feed)))
                restart = None
                if sum(len(piece.data) for piece in held) > _PROVEN_BYTES:
                    yield from held
                    held.clear()
            used = len(feed)
            if member.eof:
                used -= len(member.unused_data or b"")  # LZ4 says None
                member = None
                yield from held
                held.clear()
            rest, at_byte = rest[used:], at_byte + used
    if member is not None or at_byte == start_byte:
        what = f"in the middle of the {codec} member that begins at byte {member_byte}" if member else "before any data"
        raise BadData(
            f"{uri} ends {what}: it was cut short at byte {at_byte}",
            hint="The rows in the topic are the file's first ones, each whole. Get a complete copy (was the "
            "upload finished?) and load it as a new job: another file is another object.",
        )


def _plain(codec: str, member: _Member, feed: memoryview, member_byte: int, at_byte: int, uri: str) -> Iterator[bytes]:
    """All that the member gives for these bytes, in pieces that fit into memory."""
    given: bytes | memoryview = feed
    while True:
        try:
            data = member.decompress(given, _PIECE_BYTES)
        except _DAMAGED as error:
            raise _damaged(codec, str(error), member_byte, at_byte, at_byte + len(feed), uri) from None
        if data:
            yield data
        if member.eof or member.needs_input:
            return
        given = b""


def _damaged(codec: str, reason: str, member_byte: int, at_byte: int, end_byte: int, uri: str) -> BadData:
    if codec == "zstd" and _WIDE_WINDOW in reason:
        return BadData(
            f"{uri} needs more than 128 MiB of memory to decompress: its zstd frame at byte {member_byte} was made "
            "with a wider window",
            hint="Compress it again with at most `zstd --long=27`, and load that file as a new job.",
        )
    return BadData(
        f"{uri} is damaged: its {codec} member from byte {member_byte} on makes no sense between bytes {at_byte} and "
        f"{end_byte} ({reason})",
        hint="Rows of the members before it are sound. Rows of this one that were sent already may be wrong where only "
        f"its checksum tells. Test the file ({codec} -t), get a sound copy, and load it as a new job: another file is "
        "another object.",
    )
