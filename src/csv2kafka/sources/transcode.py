"""Text of another encoding -> UTF-8, in pieces, with the places kept at which reading may begin anew. No I/O.

Bytes that are no text in their encoding come out as bytes that are no UTF-8, so that whoever reads rows finds the row.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from csv2kafka.sources.pieces import Piece

UTF8 = "utf-8"
UTF16 = "utf-16"  # which of the two, its byte-order mark tells
_UNIT_BYTES = {"utf-16-le": 2, "utf-16-be": 2}  # the others have one byte a character
_MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
_HIGH_SURROGATES = range(0xD8, 0xDC)  # of a code unit's upper byte: the second half of the character follows

ENCODINGS = {
    "utf-8": UTF8,
    "utf8": UTF8,
    "utf-8-sig": UTF8,
    "ascii": UTF8,
    "us-ascii": UTF8,
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "utf-16": UTF16,
    "utf16": UTF16,
    "utf-16-le": "utf-16-le",
    "utf-16le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "utf-16be": "utf-16-be",
}


def encoding_of_mark(first_bytes: bytes) -> str | None:
    """What a byte-order mark says, None without one."""
    for encoding, mark in _MARKS.items():
        if first_bytes.startswith(mark):
            return encoding
    return UTF8 if first_bytes.startswith(codecs.BOM_UTF8) else None


def transcode(encoding: str, pieces: Iterable[Piece], *, at_start: bool) -> Iterator[Piece]:
    """The pieces as UTF-8; `at_start`: the first may begin with a byte-order mark, which is left out."""
    mark = _MARKS.get(encoding, b"") if at_start else b""
    held = b""  # the begun character at the end of the last piece
    end_byte = 0
    for piece in pieces:
        data = held + piece.data if held else piece.data
        restart = None if held else piece.restart_byte
        end_byte = piece.end_byte
        if mark:
            if len(data) < len(mark):
                held = data
                continue
            if data.startswith(mark):
                # Reading anew at this piece would have to know of the mark: only the object's first byte does.
                data, restart = data[len(mark) :], None
            mark = b""
        whole_bytes = _whole_bytes(encoding, data)
        held = data[whole_bytes:]
        if whole_bytes:
            yield Piece(_to_utf8(encoding, data[:whole_bytes] if held else data), restart, end_byte)
    if held:
        yield Piece(_half_a_character(encoding, held), None, end_byte)


def _whole_bytes(encoding: str, data: bytes) -> int:
    """How many of the bytes are whole characters."""
    unit_bytes = _UNIT_BYTES.get(encoding)
    if unit_bytes is None:
        return len(data)
    whole_bytes = len(data) // unit_bytes * unit_bytes
    if whole_bytes and data[whole_bytes - (1 if encoding == "utf-16-le" else 2)] in _HIGH_SURROGATES:
        whole_bytes -= unit_bytes
    return whole_bytes


def _to_utf8(encoding: str, data: bytes) -> bytes:
    # What has no character: a lone surrogate in UTF-8's spelling, or the byte itself, which is no UTF-8 by itself
    # (the five that Windows-1252 leaves out could only continue a character).
    escape = "surrogatepass" if encoding in _UNIT_BYTES else "surrogateescape"
    return data.decode(encoding, escape).encode("utf-8", escape)


def _half_a_character(encoding: str, held: bytes) -> bytes:
    """The end of a text that ends within a character: a lone surrogate, an odd byte, or both."""
    surrogate = held[: len(held) // 2 * 2]
    return _to_utf8(encoding, surrogate) + (b"\xff" if len(held) % 2 else b"")
