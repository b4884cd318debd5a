"""A source whose bytes are compressed or in another encoding, as plain UTF-8: the same protocol, positions in the text.

Reading from a position begins at the nearest place before it where that is possible, and throws away what lies
between. Such places are learned by reading; one of them travels in the checkpoint, for the next run.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing

from csv2kafka.model import Restart, TextFormat
from csv2kafka.sources import Source
from csv2kafka.sources.decompress import decompress
from csv2kafka.sources.pieces import Piece
from csv2kafka.sources.sniff import AUTO, SNIFF_BYTES, codec_of, format_of
from csv2kafka.sources.transcode import UTF8, transcode

_MOST_PLACES = 4096
_APART_BYTES = 256 << 10
_KEPT_BYTES = 32 << 20  # as far as a take-over goes back behind what was read ahead of it


def as_text(
    raw: Source, *, codec: str = AUTO, encoding: str | None = None, restart: Restart | None = None
) -> tuple[Source, TextFormat]:
    """The source as UTF-8 text and what it took: `raw` itself where it is that already.

    codec: what --decompress says; encoding: a name in transcode.ENCODINGS, None: as a byte-order mark tells, or UTF-8.
    restart: a place in the text that an earlier run learned.
    Raises BadData for what cannot be read as text, and as reading does.
    """
    uri = raw.identity.uri
    first_bytes = raw.read_at(0, SNIFF_BYTES)
    found = codec_of(uri, first_bytes, codec)
    if found is not None:
        first_bytes = TextSource(raw, TextFormat(found)).read_at(0, SNIFF_BYTES)
    text_format = format_of(uri, found, first_bytes, encoding)
    if text_format == TextFormat():
        return raw, text_format
    return TextSource(raw, text_format, restart), text_format


class TextSource(Source):
    """`raw` as UTF-8 text; closing it closes `raw`. `restart` is a place that an earlier run learned.

    Offsets are the text's from 0 on, and the text's size is not known before it was read to its end; `identity` is the
    raw object's. A read that is left where reading anew would be long is kept, and the next one goes on with it.
    """

    def __init__(
        self, raw: Source, text_format: TextFormat, restart: Restart | None = None, *, apart_bytes: int = _APART_BYTES
    ) -> None:
        """apart_bytes: of the text, between two places that are remembered."""
        self.identity = raw.identity
        self._raw = raw
        self._format = text_format
        self._lock = threading.Lock()
        self._is_closed = False
        self._restarts = _Places(apart_bytes, restart)
        self._ends = _Places(apart_bytes, restart)  # how far the object was read for the text up to a byte of it
        self._size_bytes: int | None = None  # of the text, known at its end
        self._left: _Reading | None = None

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        if offset_bytes < 0:
            raise ValueError(f"byte {offset_bytes} lies outside {self.identity.uri}")
        return self._text(offset_bytes)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        found = bytearray()
        with closing(self.read_from(offset_bytes)) as chunks:
            while len(found) < size_bytes and (chunk := next(chunks, b"")):
                found += chunk
        return bytes(found[:size_bytes])

    def restart_before(self, offset_bytes: int) -> Restart | None:
        with self._lock:
            return Restart(*self._restarts.before(offset_bytes))

    @property
    def failures(self) -> int:
        return self._raw.failures

    def object_bytes(self, offset_bytes: int) -> int:
        with self._lock:
            if offset_bytes == self._size_bytes:
                return self.identity.size_bytes  # with what may lie behind the last member
            return self._ends.before(offset_bytes)[1]

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            left, self._left = self._left, None
        if left is not None:
            left.close()
        self._raw.close()

    def _text(self, offset_bytes: int) -> Generator[bytes, None, None]:
        reading = self._reading_for(offset_bytes)
        is_sound = False
        try:
            for start_byte, data in reading.kept():
                if start_byte + len(data) > offset_bytes:
                    is_sound = True
                    yield data[max(0, offset_bytes - start_byte) :]
                    is_sound = False
            while (piece := self._next(reading)) is not None:
                unwanted_bytes = max(0, offset_bytes - (reading.end_byte - len(piece.data)))
                if unwanted_bytes < len(piece.data):
                    is_sound = True
                    yield piece.data[unwanted_bytes:] if unwanted_bytes else piece.data
                    is_sound = False
            if reading.end_byte < offset_bytes:
                raise ValueError(
                    f"byte {offset_bytes} lies outside the text of {self.identity.uri}, which has {reading.end_byte}"
                )
        finally:
            self._leave(reading, is_sound=is_sound)

    def _reading_for(self, offset_bytes: int) -> _Reading:
        with self._lock:
            text_byte, object_byte = self._restarts.before(offset_bytes)
            left, self._left = self._left, None
        if left is not None:
            if left.start_byte <= offset_bytes and text_byte <= left.end_byte:
                return left
            left.close()
        return _Reading(self._raw, self._format, text_byte, object_byte)

    def _next(self, reading: _Reading) -> Piece | None:
        """The next piece; what it tells of places is noted."""
        if self._is_closed:
            raise ValueError(f"{self.identity.uri} was closed while it was read")
        start_byte = reading.end_byte
        piece = reading.next()
        with self._lock:
            if piece is None:
                self._size_bytes = start_byte
            else:
                if piece.restart_byte is not None:
                    self._restarts.add(start_byte, piece.restart_byte)
                self._ends.add(reading.end_byte, piece.end_byte)
        return piece

    def _leave(self, reading: _Reading, *, is_sound: bool) -> None:
        """Keep the reading for the next one, or end it."""
        ended: _Reading | None = reading
        if is_sound and reading.is_far:
            with self._lock:
                if not self._is_closed:
                    ended, self._left = self._left, reading
        if ended is not None:
            ended.close()


class _Reading:
    """One way through the text, with the last bytes that it gave for who must go back a little.

    Nothing is kept from before a restart place: reading anew there is as good.
    """

    def __init__(self, raw: Source, text_format: TextFormat, text_byte: int, object_byte: int) -> None:
        self.start_byte = self.end_byte = text_byte  # what is kept
        self.is_far = False  # from every place at which reading could begin anew
        self._chunks = raw.read_from(object_byte)
        self._pieces = _pieces(self._chunks, object_byte, text_format, raw.identity.uri)
        self._kept: deque[bytes] = deque()

    def next(self) -> Piece | None:
        piece = next(self._pieces, None)
        if piece is None:
            return None
        if piece.restart_byte is not None:
            self._kept.clear()
            self.start_byte = self.end_byte
            self.is_far = False
        self._kept.append(piece.data)
        self.end_byte += len(piece.data)
        while self.end_byte - self.start_byte - len(self._kept[0]) >= _KEPT_BYTES:
            self.start_byte += len(self._kept.popleft())
            self.is_far = True
        return piece

    def kept(self) -> list[tuple[int, bytes]]:
        """What may be read again: each piece with its place in the text."""
        start_byte = self.start_byte
        found = []
        for data in self._kept:
            found.append((start_byte, data))
            start_byte += len(data)
        return found

    def close(self) -> None:
        self._kept.clear()
        self._chunks.close()


def _pieces(chunks: Iterator[bytes], start_byte: int, text_format: TextFormat, uri: str) -> Iterator[Piece]:
    pieces: Iterator[Piece]
    if text_format.codec is None:
        pieces = _as_they_are(chunks, start_byte)
    else:
        pieces = decompress(text_format.codec, chunks, start_byte, uri)
    if text_format.encoding == UTF8:
        return pieces
    return transcode(text_format.encoding, pieces, at_start=start_byte == 0)


def _as_they_are(chunks: Iterator[bytes], start_byte: int) -> Iterator[Piece]:
    for chunk in chunks:
        yield Piece(chunk, start_byte, start_byte + len(chunk))
        start_byte += len(chunk)


class _Places:
    """Pairs (byte of the text, byte of the object), both rising, (0, 0) the first: so many at most, so far apart."""

    def __init__(self, apart_bytes: int, known: Restart | None) -> None:
        self._apart_bytes = apart_bytes
        self._text = [0]
        self._object = [0]
        if known is not None and known.text_byte > 0:
            self._text.append(known.text_byte)
            self._object.append(known.object_byte)

    def add(self, text_byte: int, object_byte: int) -> None:
        at = bisect_right(self._text, text_byte)
        if text_byte - self._text[at - 1] < self._apart_bytes:
            return
        self._text.insert(at, text_byte)
        self._object.insert(at, object_byte)
        if len(self._text) > _MOST_PLACES:
            # Every second of the older ones: a take-over needs those near the end of what was read.
            older = _MOST_PLACES // 2
            del self._text[1:older:2], self._object[1:older:2]

    def before(self, text_byte: int) -> tuple[int, int]:
        """The last pair at or before a byte of the text."""
        at = bisect_right(self._text, text_byte) - 1
        return self._text[at], self._object[at]
