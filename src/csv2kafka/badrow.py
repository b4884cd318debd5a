"""Why a row cannot become a record, in words for people. The reason says nothing of what is in the row."""

from __future__ import annotations

from csv2kafka import csvkernel, slowcsv
from csv2kafka.errors import BadRow
from csv2kafka.model import Block, Kind, Position, QuarantinedRow, RecordShape
from csv2kafka.plan import fields_of
from csv2kafka.simd import Bytes

# What is wrong with one row alone, so that the next one can be read. Behind a quote never closed nothing can.
OF_ONE_ROW = frozenset(
    {
        csvkernel.BAD_UTF8,
        csvkernel.TOO_FEW_FIELDS,
        csvkernel.TOO_MANY_FIELDS,
        csvkernel.BAD_VALUE,
        csvkernel.BAD_NULL,
    }
)
_SHOWN_CHARACTERS = 60
_MEND = (
    "Run again with --bad-rows quarantine to set such rows apart, or mend this one in the file and load that as a new "
    "job (a mended file is another object)."
)
_TELL = " If the whole file is in another encoding, tell which: --encoding latin-1, cp1252 or utf-16."
_ONE_MESSAGE = "(kafka-configs.sh --alter --entity-type topics) and run the same command again."


class Judge:
    """Says what is wrong with the rows of one shape. `src` is the block's data, `at` a place in or before the row."""

    def __init__(self, shape: RecordShape) -> None:
        self._shape = shape

    def unreadable(self, src: Bytes, at: int, block: Block, row: int, status: int, bad_column: int) -> BadRow:
        """Of row number `row` (from 0), which the kernel left with this status."""
        start, end = self._extent(src, at, block)
        hint = _MEND
        if status == csvkernel.UNCLOSED_QUOTE:
            reason = "has a quote that is never closed"
            hint = "Mend it in the file and load that as a new job: without its end the next row cannot be found."
        elif status == csvkernel.BAD_UTF8:
            reason = f"is not valid {self._shape.text.encoding.upper()}"
            hint += _TELL
        elif status in (csvkernel.BAD_VALUE, csvkernel.BAD_NULL):
            reason, hint = self._unfitting(block.data[start:end], status, bad_column)
        else:
            reason = self._ragged(block.data[start:end])
        at_byte = block.start.byte_offset
        return BadRow(Position(row, at_byte + start), at_byte + end, reason, hint=hint)

    def too_large(self, src: Bytes, at: int, block: Block, row: int, size_bytes: int, limit_bytes: int) -> BadRow:
        start, end = self._extent(src, at, block)
        return BadRow(
            Position(row, block.start.byte_offset + start),
            block.start.byte_offset + end,
            f"makes a record batch of {size_bytes} bytes, more than the topic's max.message.bytes ({limit_bytes})",
            hint=f"Raise max.message.bytes of the topic to {size_bytes} or more {_ONE_MESSAGE}",
        )

    def _unfitting(self, row: bytes, status: int, bad_column: int) -> tuple[str, str]:
        """(reason, hint) of a value that is not what the schema says of its column."""
        column = _named(self._shape.columns[bad_column], bad_column)
        kind = fields_of(self._shape)[bad_column].kind
        if status == csvkernel.BAD_NULL:
            return f"has no value in column {column}, which is not nullable", (
                f'Allow it in the schema ("nullable": true) and load the file as a new job. Or: {_MEND}'
            )
        text = slowcsv.fields(row.decode("utf-8", "replace"), self._shape.dialect)[bad_column]
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
        return f"has no {kind} in column {column}", (
            f"{_why_not(kind, text)}It is {shown!r}. Give the column another type in the schema (every text is a "
            f"string) and load the file as a new job. Or: {_MEND}"
        )

    def _extent(self, src: Bytes, at: int, block: Block) -> tuple[int, int]:
        """First byte and end of the next row's text, line ends apart: blank lines lead, a block may cut CR from LF."""
        start, stop = at, block.size_bytes
        while start < stop and block.data[start] in b"\r\n":
            start += 1
        dialect = self._shape.dialect
        rows, end, _, _ = csvkernel.scan_rows(
            src, start, stop, start, False, True, ord(dialect.delimiter), ord(dialect.quote), dialect.escape_byte, 1
        )
        return start, end - 1 if rows else stop

    def _ragged(self, row: bytes) -> str:
        fields = len(slowcsv.fields(row.decode("utf-8", "replace"), self._shape.dialect))
        return f"has {fields} field{'s' if fields > 1 else ''} where the header has {len(self._shape.columns)}"


def set_apart(bad: BadRow, block: Block) -> QuarantinedRow:
    """The row that the error is about, cut out of its block."""
    start, end = bad.start.byte_offset - block.start.byte_offset, bad.end_byte - block.start.byte_offset
    return QuarantinedRow(bad.start.row + 1, bad.start.byte_offset, block.data[start:end], bad.reason)


def _named(column: str, number: int) -> str:
    """The column in an error; a very long name is cut, as reasons are kept in checkpoints."""
    return repr(column) if len(column) <= _SHOWN_CHARACTERS else f"{number + 1}, {column[:_SHOWN_CHARACTERS] + '...'!r}"


def _why_not(kind: Kind, text: str) -> str:
    """What is behind the refusals that surprise people, as a sentence with a blank behind it."""
    if kind not in (Kind.INT, Kind.FLOAT, Kind.DECIMAL):
        return ""
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return "A JSON number has no leading zeros, and dropping them would change a code or a postal code. "
    if digits.lower() in ("nan", "inf", "infinity"):
        return "JSON has no such number. "
    if kind == Kind.FLOAT and digits[:1].isdigit() and "e" in digits.lower():
        return "A number beyond 1.8e308 is none that a double can hold. "
    return ""
