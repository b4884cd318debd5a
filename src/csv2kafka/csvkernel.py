"""The compiled core: find the ends of rows, and turn rows into framed Kafka records with a JSON object as value.

Semantics are those of Python's `csv` module (non-strict): a quote opens a quoted field only as its first character,
elsewhere it is text; a doubled quote inside is one; text after the closing quote belongs to the field; LF, CR and
CRLF end a row; a row without a single character is no row. Values become JSON strings as
`json.dumps(..., ensure_ascii=False, separators=(",", ":"))` writes them. No I/O, no clock, no Python objects here.

Vector steps read and write 32 bytes at once, so sources need PADDING readable bytes behind their end and a write
position never passes `len(dst) - SLACK`: that one comparison for each step is the proof that nothing is written
outside the buffer.
"""

from __future__ import annotations

from csv2kafka.recordkernel import AS_JSON, AS_RAW, KEY_END, Plan, finish_field, frame, frame_planned
from csv2kafka.simd import (
    WIDTH,
    Bytes,
    Offsets,
    copy32,
    copy_until_special,
    inlined_kernel,
    kernel,
    lowest_bit,
    matches,
)
from csv2kafka.textkernel import (
    BACKSLASH,
    BAD_NULL,
    BAD_UTF8,
    BAD_VALUE,
    CR,
    FULL,
    LF,
    OK,
    QUOTE,
    TOO_FEW_FIELDS,
    TOO_MANY_FIELDS,
    UNCLOSED_QUOTE,
    write_character,
    write_special,
)

__all__ = [
    "BAD_NULL",
    "BAD_UTF8",
    "BAD_VALUE",
    "FULL",
    "OK",
    "PADDING",
    "SLACK",
    "TOO_FEW_FIELDS",
    "TOO_MANY_FIELDS",
    "UNCLOSED_QUOTE",
    "encode_rows",
    "scan_rows",
]

PADDING = WIDTH  # readable bytes that must follow the source's end, whatever they hold
SLACK = 96  # one vector step, the longest escape, a record's closing bytes and a shift by its longest header


@kernel
def scan_rows(
    src: Bytes,
    at: int,
    stop: int,
    row_start: int,
    in_quotes: bool,
    final: bool,
    delimiter: int,
    quote: int,
    escape: int | None,
    max_rows: int,
) -> tuple[int, int, int, bool]:
    """Count whole rows in `src[at:stop]`; return (rows, row_start, at, in_quotes) to go on from with more bytes.

    `row_start` is where the row that holds `at` begins, after the call the end of the last whole row. Without
    `final` a quote as the very last byte is left undecided (its twin may follow), and so is an escape before what
    it hangs on. Stops behind row `max_rows`.
    """
    rows = 0
    while at < stop:
        if in_quotes:
            found = matches(src, at, quote, quote, quote, quote if escape is None else escape)
            if found == 0:
                at += WIDTH
                continue
            at += lowest_bit(found)
            if at >= stop or (at + 1 == stop and not final):
                break
            at, in_quotes = _behind_quote(src, at, stop, quote, escape)
            continue
        found = matches(src, at, LF, CR, quote, quote if escape is None else escape)
        base = at
        at = base + WIDTH
        while found != 0:
            here = base + lowest_bit(found)
            found &= found - 1
            if here >= stop:
                break
            if escape is not None:
                if src[here] == escape:
                    if here + 2 >= stop and not final:
                        return rows, row_start, here, False
                    is_text = here + 2 < stop and src[here + 2] == quote  # even where a delimiter is escaped
                    at = here + 3 if is_text else here + 2
                    break
            if src[here] == quote:
                if here == row_start or src[here - 1] == delimiter:
                    in_quotes = True
                    at = here + 1
                    break
            else:
                if here > row_start:
                    rows += 1
                row_start = here + 1
                if rows == max_rows:
                    return rows, row_start, row_start, False
    return rows, row_start, min(at, stop), in_quotes


@kernel
def _behind_quote(src: Bytes, at: int, stop: int, quote: int, escape: int | None) -> tuple[int, bool]:
    """(where to go on, still in quotes) from the quote or escape at `at` on, inside of quotes."""
    if escape is not None:
        if src[at] == escape:
            return at + 2, True
        if at + 1 < stop and src[at + 1] == escape:  # text, right behind a closing quote
            return at + 2, False
    if at + 1 < stop and src[at + 1] == quote:
        return at + 2, True
    return at + 1, False


@kernel
def encode_rows(
    src: Bytes,
    at: int,
    stop: int,
    delimiter: int,
    quote: int,
    prefixes: Bytes,
    prefix_at: Offsets,
    dst: Bytes,
    written: int,
    rows: int,
    max_rows: int,
    plan: Plan | None,
) -> tuple[int, int, int, int]:
    """Encode rows of `src[at:stop]` into `dst` until there are `max_rows`; return (at, written, rows, status).

    `written` bytes of `rows` rows are in `dst` already.

    Column f's prefix is `prefixes[prefix_at[f]:prefix_at[f + 1]]`, with PADDING bytes behind the last. It closes the
    field before and opens its own (`","name":"`); with a plan fields close themselves (`,"name":"`, `,"name":`).
    With a status other than OK, `at` is where the row begins that could not be written, and everything before it is
    in `dst`. Rows that the plan leaves out count as well.
    """
    limit = dst.size - SLACK
    header = 8  # how long the last record's header was: a good guess for the next one's
    while rows < max_rows:
        while at < stop and (src[at] == LF or src[at] == CR):
            at += 1
        if at >= stop:
            break
        value_at = written + header
        row_end, value_end, status = _write_value(
            src, at, stop, delimiter, quote, prefixes, prefix_at, dst, value_at, limit, plan
        )
        if status != OK:
            return at, written, rows, status
        if plan is None:
            written, header = frame(dst, written, value_at, value_end, rows)
        else:
            written, header, status = frame_planned(dst, written, value_at, value_end, rows, at, plan)
            if status != OK:
                return at, written, rows, status
        at = row_end
        rows += 1
    return at, written, rows, OK


@kernel
def _zero(number: int) -> int:
    """0, but no literal: Numba would compile all that is given one a second time."""
    return number - number


@kernel
def _write_value(
    src: Bytes,
    at: int,
    stop: int,
    delimiter: int,
    quote: int,
    prefixes: Bytes,
    prefix_at: Offsets,
    dst: Bytes,
    out: int,
    limit: int,
    plan: Plan | None,
) -> tuple[int, int, int]:
    """Write the value of the row at `src[at]`; return (end of the row, end of the value, status)."""
    columns = prefix_at.size - 1
    column = _zero(at)
    row_start = at
    if plan is not None:
        plan.notes[KEY_END] = 0
    while True:
        if column == columns:
            return at, out, TOO_MANY_FIELDS
        prefix = prefix_at[column]
        prefix_end = prefix_at[column + 1]
        if out + (prefix_end - prefix) > limit:
            return at, out, FULL
        copied = 0
        while prefix + copied < prefix_end:
            copy32(dst, out + copied, prefixes, prefix + copied)
            copied += WIDTH
        out += prefix_end - prefix
        status = OK
        text_at = out
        escape = None if plan is None else plan.escape
        if at < stop and src[at] == quote:
            at, out, status = _copy_quoted(src, at + 1, stop, quote, dst, out, limit, escape)
        if status == OK:
            at, out, status = _copy_plain(src, at, stop, delimiter, dst, out, limit, escape)
        if status != OK:
            return at, out, status
        if plan is not None:
            out, status = finish_field(dst, text_at, out, column, plan)
            if status != OK:
                return at, out, status
        column += 1
        if at < stop and src[at] == delimiter:
            at += 1
            continue
        break
    if column != columns:
        return at, out, TOO_FEW_FIELDS
    row_stop = at
    if at < stop:
        at += 2 if src[at] == CR and at + 1 < stop and src[at + 1] == LF else 1
    if plan is None:
        dst[out] = QUOTE
        dst[out + 1] = 0x7D
        return at, out + 2, OK
    out, status = _close_value(src, row_start, row_stop, dst, out, limit, plan)
    return at, out, status


@inlined_kernel
def _close_value(
    src: Bytes, start: int, stop: int, dst: Bytes, out: int, limit: int, plan: Plan | None
) -> tuple[int, int]:
    """End the value of the row `src[start:stop]`, all of whose fields are written; return (its end, status)."""
    if plan is None:
        dst[out] = QUOTE
        dst[out + 1] = 0x7D
        return out + 2, OK
    if plan.value_format == AS_JSON:
        dst[out] = 0x7D
        return out + 1, OK
    if plan.value_format == AS_RAW:
        if out + (stop - start) > limit:
            return out, FULL
        for copied in range(0, stop - start, WIDTH):
            copy32(dst, out + copied, src, start + copied)
        out += stop - start
    return out, OK


@kernel
def _copy_plain(
    src: Bytes, at: int, stop: int, delimiter: int, dst: Bytes, out: int, limit: int, escape: int | None
) -> tuple[int, int, int]:
    """Copy unquoted text up to the delimiter or line end (or `stop`) that ends it. `escape`: -1 for none, too."""
    other = delimiter if escape is None or escape < 0 else escape
    while True:
        if out > limit:
            return at, out, FULL
        plain = copy_until_special(dst, out, src, at, delimiter, delimiter if escape is None else other)
        at += plain
        out += plain
        if at >= stop:
            return stop, out - (at - stop), OK
        if plain == WIDTH:
            continue
        byte = src[at]
        if byte in (delimiter, LF, CR):
            return at, out, OK
        if escape is not None:
            if byte == escape:
                at, out, status = _write_escaped(src, at + 1, stop, dst, out)
                if status != OK:
                    return at, out, status
                continue
        at, out, status = write_special(src, at, stop, dst, out)
        if status != OK:
            return at, out, status


@kernel
def _write_escaped(src: Bytes, at: int, stop: int, dst: Bytes, out: int) -> tuple[int, int, int]:
    """Write the character behind an escape, whatever it is. An escape that ends the file stands for a line end."""
    if at < stop:
        return write_character(src, at, stop, dst, out)
    dst[out] = BACKSLASH
    dst[out + 1] = 0x6E
    return at, out + 2, OK


@kernel
def _copy_quoted(
    src: Bytes, at: int, stop: int, quote: int, dst: Bytes, out: int, limit: int, escape: int | None
) -> tuple[int, int, int]:
    """Copy a quoted field from behind its opening quote to behind the closing one.

    An escape right behind that is text as well.
    """
    other = quote if escape is None or escape < 0 else escape
    while True:
        if out > limit:
            return at, out, FULL
        plain = copy_until_special(dst, out, src, at, quote, quote if escape is None else other)
        at += plain
        out += plain
        if at >= stop:
            return stop, out, UNCLOSED_QUOTE
        if plain == WIDTH:
            continue
        if src[at] == quote:
            if at + 1 >= stop or src[at + 1] != quote:
                if escape is not None:
                    if at + 1 < stop and src[at + 1] == escape:
                        return write_character(src, at + 1, stop, dst, out)
                return at + 1, out, OK
            at += 1  # the second of the two is text
            if quote > 0x1F and quote not in (QUOTE, BACKSLASH):
                dst[out] = quote
                out += 1
                at += 1
                continue
        elif escape is not None:
            if src[at] == escape:
                if at + 1 >= stop:
                    return stop, out, UNCLOSED_QUOTE
                at, out, status = write_character(src, at + 1, stop, dst, out)
                if status != OK:
                    return at, out, status
                continue
        at, out, status = write_special(src, at, stop, dst, out)
        if status != OK:
            return at, out, status
