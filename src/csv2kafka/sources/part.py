"""A part of a source: reads end where the part does, and progress is the part's. Positions stay the whole text's.

What lies before the part can be read all the same, as the header does.
"""

from __future__ import annotations

from collections.abc import Generator

from csv2kafka.errors import UsageError
from csv2kafka.model import Part, TextFormat
from csv2kafka.sources import Source, check_offset


def as_part(source: Source, text: TextFormat, part: Part | None) -> Source:
    """The part of the source, which it took `text` to read; the source itself without one. Raises UsageError."""
    if part is None:
        return source
    if text != TextFormat():
        how = f"compressed ({text.codec})" if text.codec else f"in {text.encoding.upper()}"
        raise UsageError(
            f"{source.identity.uri} is {how}: only all of it can be loaded, as its text has no places to begin at",
            hint="Load it whole, or a copy of it that is uncompressed UTF-8.",
        )
    return PartSource(source, part)


class PartSource(Source):
    """`raw` to the part's end; closing it closes `raw`. `identity` is the whole object's, so a changed one is told."""

    def __init__(self, raw: Source, part: Part) -> None:
        """Raises ValueError for a part that does not lie in the object."""
        check_offset(part.end_byte, raw.identity)
        if not 0 <= part.start_byte <= part.end_byte:
            raise ValueError(f"bytes {part.start_byte} to {part.end_byte} are no part of {raw.identity.uri}")
        self.identity = raw.identity
        self._raw = raw
        self._part = part

    def read_from(self, offset_bytes: int) -> Generator[bytes, None, None]:
        self._check(offset_bytes)
        return self._raw.read_range(offset_bytes, self._part.end_byte)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._check(offset_bytes)
        return self._raw.read_at(offset_bytes, min(size_bytes, self._part.end_byte - offset_bytes))

    @property
    def failures(self) -> int:
        return self._raw.failures

    def object_bytes(self, offset_bytes: int) -> int:
        return max(0, offset_bytes - self._part.start_byte)

    @property
    def object_size_bytes(self) -> int:
        return self._part.end_byte - self._part.start_byte

    @property
    def start_byte(self) -> int:
        return self._part.start_byte

    def close(self) -> None:
        self._raw.close()

    def _check(self, offset_bytes: int) -> None:
        if not 0 <= offset_bytes <= self._part.end_byte:
            raise ValueError(f"byte {offset_bytes} lies behind the part of {self.identity.uri} that is read")
