"""What travels between a source and its text: some bytes, and whether reading may begin anew at them. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a stream made from an object's raw bytes.

    `restart_byte` is where in the object reading anew gives exactly the stream from this piece on, None where that is
    not possible (inside a compressed member, inside a character). `end_byte` is how far the object was read for it.
    """

    data: bytes
    restart_byte: int | None
    end_byte: int
