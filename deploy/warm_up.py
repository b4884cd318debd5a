"""Compile every kernel that a load may need into NUMBA_CACHE_DIR: the image's build runs this, so that no load has to.

A kernel is compiled for the types of its arguments. Two of them depend on options: whether there is a plan, and whether
there is an escape character. What `csv2kafka schema` needs is among those.
"""

from __future__ import annotations

from csv2kafka import recordbatch
from csv2kafka.encoder import Encoder
from csv2kafka.model import Dialect, Position, RecordShape
from csv2kafka.splitter import split

COLUMNS = ("id", "name")
ROWS = b"1,one\r\n2,two\r\n"
DIALECTS = (Dialect(), Dialect(escape="\\"))
SHAPES = tuple(RecordShape(COLUMNS, dialect, key=key) for dialect in DIALECTS for key in ((), ("id",)))
LANES = 2  # with a key, records are also gathered by partition


def main() -> None:
    for shape in SHAPES:
        encoder = Encoder(shape, recordbatch.CODECS["lz4"], 1 << 20, LANES if shape.key else 1)
        for block in split([ROWS], Position(0, 0), shape.dialect, lambda: 1 << 20):
            encoder.encode(block)


if __name__ == "__main__":
    main()
