"""A source whose bytes are compressed or in another encoding, as plain UTF-8: the same protocol, positions in the text.

Reading from a position begins at the nearest place before it where that is possible, and throws away what lies
between. Such places are learned by reading; one of them travels in the checkpoint, for the next run.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing

from csv2kafka.model import Restart
from csv2kafka.sources import Source
from csv2kafka.sources.decompress import decompress
from csv2kafka.sources.pieces import Piece
from csv2kafka.sources.transcode import UTF8, transcode

_MOST_PLACES = 4096


class TextSource(Source):
    """`raw` as UTF-8 text. codec: one of decompress.CODECS, or None; encoding: a value of transcode.ENCODINGS.

    `restart` is a place that an earlier run learned. Offsets are the text's from 0 on, and the text's size is not known
    before it was read to its end; `identity` is the raw object's.
    """

    def __init__(self, raw: Source, codec: str | None, encoding: str, restart: Restart | None = None) -> None:
        self.identity = raw.identity
        self._raw = raw
        self._codec = codec
        self._encoding = encoding
        self._lock = threading.Lock()
        self._restarts = _Places()
        self._ends = _Places()
        self._restarts.add(0, 0)
        if restart is not None:
            self._restarts.add(restart.text_byte, restart.object_byte)
            self._ends.add(restart.text_byte, restart.object_byte)

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        return self._text(offset_bytes)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        found = b""
        with closing(self._text(offset_bytes)) as chunks:
            for chunk in chunks:
                found += chunk
                if len(found) >= size_bytes:
                    break
        return found[:size_bytes]

    def restart_before(self, offset_bytes: int) -> Restart | None:
        with self._lock:
            return Restart(*self._restarts.before(offset_bytes))

    def object_bytes(self, offset_bytes: int) -> int:
        with self._lock:
            return self._ends.before(offset_bytes)[1]

    def close(self) -> None:
        self._raw.close()

    def _text(self, offset_bytes: int) -> Generator[bytes, None, None]:
        with self._lock:
            text_byte, object_byte = self._restarts.before(offset_bytes)
        with closing(self._raw.read_from(object_byte)) as chunks:
            for piece in self._pieces(chunks, object_byte):
                with self._lock:
                    if piece.restart_byte is not None:
                        self._restarts.add(text_byte, piece.restart_byte)
                    self._ends.add(text_byte + len(piece.data), piece.end_byte)
                unwanted = max(0, offset_bytes - text_byte)
                text_byte += len(piece.data)
                if unwanted < len(piece.data):
                    yield piece.data[unwanted:] if unwanted else piece.data

    def _pieces(self, chunks: Iterator[bytes], start_byte: int) -> Iterator[Piece]:
        pieces: Iterator[Piece]
        if self._codec is None:
            pieces = _as_they_are(chunks, start_byte)
        else:
            pieces = decompress(self._codec, chunks, start_byte, self.identity.uri)
        return pieces if self._encoding == UTF8 else transcode(self._encoding, pieces, at_start=start_byte == 0)


def _as_they_are(chunks: Iterator[bytes], start_byte: int) -> Iterator[Piece]:
    for chunk in chunks:
        yield Piece(chunk, start_byte, start_byte + len(chunk))
        start_byte += len(chunk)


class _Places:
    """Pairs (byte of the text, byte of the object), both rising, thinned out evenly when there are too many."""

    def __init__(self) -> None:
        self._text: list[int] = []
        self._object: list[int] = []

    def add(self, text_byte: int, object_byte: int) -> None:
        at = bisect_right(self._text, text_byte)
        if at and self._text[at - 1] == text_byte:
            self._object[at - 1] = object_byte
            return
        self._text.insert(at, text_byte)
        self._object.insert(at, object_byte)
        if len(self._text) > _MOST_PLACES:
            del self._text[1::2], self._object[1::2]

    def before(self, text_byte: int) -> tuple[int, int]:
        """The last pair at or before a byte of the text; (0, 0) before the first."""
        at = bisect_right(self._text, text_byte)
        return (self._text[at - 1], self._object[at - 1]) if at else (0, 0)
