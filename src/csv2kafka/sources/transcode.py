"""Text of another encoding -> UTF-8, in pieces, with the places kept at which reading may begin anew. No I/O.

Bytes that are no text in their encoding come out as bytes that are no UTF-8, so that whoever reads rows finds the row.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from csv2kafka.sources.pieces import Piece

UTF8 = "utf-8"
_UNITS = {"utf-16-le": 2, "utf-16-be": 2}  # bytes; the others have one byte a character
_MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
_HIGH_SURROGATES = range(0xD8, 0xDC)  # of a code unit's upper byte: the second half follows

ENCODINGS = {
    "utf-8": UTF8,
    "utf8": UTF8,
    "utf-8-sig": UTF8,
    "ascii": UTF8,
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "utf-16": "utf-16-le",  # as a byte-order mark tells; without one as on the machines that write such files
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
}


def encoding_of_mark(first_bytes: bytes) -> str | None:
    """What a byte-order mark says: a name in ENCODINGS' values, None without a mark."""
    for encoding, mark in _MARKS.items():
        if first_bytes.startswith(mark):
            return encoding
    return UTF8 if first_bytes.startswith(codecs.BOM_UTF8) else None


def transcode(encoding: str, pieces: Iterable[Piece], *, at_start: bool) -> Iterator[Piece]:
    """The pieces as UTF-8; `at_start`: the first may begin with a byte-order mark, which is left out."""
    held = b""  # the begun character at the end of the last piece
    mark = _MARKS.get(encoding) if at_start else None
    end_byte = 0
    for piece in pieces:
        data = held + piece.data
        restart = piece.restart_byte if not held else None
        end_byte = piece.end_byte
        if mark:
            if len(data) < len(mark):
                held = data
                continue
            if data.startswith(mark):
                data = data[len(mark) :]
                restart = restart + len(mark) if restart is not None and not held else None
            mark = None
        whole = _whole(encoding, data)
        held = data[whole:]
        if whole:
            yield Piece(_to_utf8(encoding, data[:whole]), restart, end_byte)
    if held:
        yield Piece(b"\xff", None, end_byte)  # half a character: no UTF-8 either


def _whole(encoding: str, data: bytes) -> int:
    """How many of the bytes are whole characters."""
    unit = _UNITS.get(encoding)
    if unit is None:
        return len(data)
    whole = len(data) // unit * unit
    if whole and data[whole - 1 if encoding == "utf-16-le" else whole - 2] in _HIGH_SURROGATES:
        whole -= unit
    return whole


def _to_utf8(encoding: str, data: bytes) -> bytes:
    if encoding in _UNITS:
        return data.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    return data.decode(encoding, "surrogateescape").encode("utf-8", "surrogateescape")
