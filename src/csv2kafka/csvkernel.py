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

from csv2kafka.simd import WIDTH, Bytes, Offsets, copy32, copy_until_special, kernel, lowest_bit, matches

PADDING = WIDTH  # readable bytes that must follow the source's end, whatever they hold
SLACK = 96  # one vector step, the longest escape, a record's closing bytes and a shift by its longest header

OK = 0
FULL = 1  # the next row does not fit into the output
TOO_FEW_FIELDS = 2
TOO_MANY_FIELDS = 3
BAD_UTF8 = 4
UNCLOSED_QUOTE = 5

LF = 0x0A
CR = 0x0D
QUOTE = 0x22
BACKSLASH = 0x5C


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
    max_rows: int,
) -> tuple[int, int, int, bool]:
    """Count whole rows in `src[at:stop]`; return (rows, row_start, at, in_quotes) to go on from with more bytes.

    `row_start` is where the row that holds `at` begins, after the call the end of the last whole row. Without
    `final` a quote as the very last byte is left undecided (its twin may follow). Stops behind row `max_rows`.
    """
    rows = 0
    while at < stop:
        if in_quotes:
            found = matches(src, at, quote, quote, quote)
            if found == 0:
                at += WIDTH
                continue
            at += lowest_bit(found)
            if at >= stop or (at + 1 == stop and not final):
                break
            if at + 1 < stop and src[at + 1] == quote:
                at += 2
            else:
                in_quotes = False
                at += 1
            continue
        found = matches(src, at, LF, CR, quote)
        base = at
        at = base + WIDTH
        while found != 0:
            here = base + lowest_bit(found)
            found &= found - 1
            if here >= stop:
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
def encode_rows(
    src: Bytes,
    at: int,
    stop: int,
    delimiter: int,
    quote: int,
    prefixes: Bytes,
    prefix_at: Offsets,
    dst: Bytes,
    max_rows: int,
) -> tuple[int, int, int, int]:
    """Encode up to `max_rows` rows of `src[at:stop]` into `dst`; return (at, written, rows, status).

    Column f's prefix (`{"name":"` for the first, `","name":"` for the others) is
    `prefixes[prefix_at[f]:prefix_at[f + 1]]`, with PADDING bytes behind the last. With a status other than OK,
    `at` is where the row begins that could not be written, and everything before it is in `dst`.
    """
    limit = dst.size - SLACK
    written = 0
    rows = 0
    header = 8  # how long the last record's header was: a good guess for the next one's
    while rows < max_rows:
        while at < stop and (src[at] == LF or src[at] == CR):
            at += 1
        if at >= stop:
            break
        value_at = written + header
        row_end, value_end, status = _write_value(
            src, at, stop, delimiter, quote, prefixes, prefix_at, dst, value_at, limit
        )
        if status != OK:
            return at, written, rows, status
        written, header = _frame(dst, written, value_at, value_end, rows)
        at = row_end
        rows += 1
    return at, written, rows, OK


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
) -> tuple[int, int, int]:
    """Write the JSON object of the row at `src[at]`; return (end of the row, end of the value, status)."""
    columns = prefix_at.size - 1
    column = 0
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
        if at < stop and src[at] == quote:
            at, out, status = _copy_quoted(src, at + 1, stop, quote, dst, out, limit)
        if status == OK:
            at, out, status = _copy_plain(src, at, stop, delimiter, dst, out, limit)
        if status != OK:
            return at, out, status
        column += 1
        if at < stop and src[at] == delimiter:
            at += 1
            continue
        break
    if column != columns:
        return at, out, TOO_FEW_FIELDS
    if at < stop:
        at += 2 if src[at] == CR and at + 1 < stop and src[at + 1] == LF else 1
    dst[out] = QUOTE
    dst[out + 1] = 0x7D
    return at, out + 2, OK


@kernel
def _copy_plain(
    src: Bytes, at: int, stop: int, delimiter: int, dst: Bytes, out: int, limit: int
) -> tuple[int, int, int]:
    """Copy unquoted text up to the delimiter or line end (or `stop`) that ends it."""
    while True:
        if out > limit:
            return at, out, FULL
        plain = copy_until_special(dst, out, src, at, delimiter)
        at += plain
        out += plain
        if at >= stop:
            return stop, out - (at - stop), OK
        if plain == WIDTH:
            continue
        byte = src[at]
        if byte in (delimiter, LF, CR):
            return at, out, OK
        at, out, status = _write_special(src, at, stop, dst, out)
        if status != OK:
            return at, out, status


@kernel
def _copy_quoted(src: Bytes, at: int, stop: int, quote: int, dst: Bytes, out: int, limit: int) -> tuple[int, int, int]:
    """Copy a quoted field from behind its opening quote to behind the closing one."""
    while True:
        if out > limit:
            return at, out, FULL
        plain = copy_until_special(dst, out, src, at, quote)
        at += plain
        out += plain
        if at >= stop:
            return stop, out, UNCLOSED_QUOTE
        if plain == WIDTH:
            continue
        if src[at] == quote:
            if at + 1 >= stop or src[at + 1] != quote:
                return at + 1, out, OK
            at += 1  # the second of the two is text
            if quote > 0x1F and quote not in (QUOTE, BACKSLASH):
                dst[out] = quote
                out += 1
                at += 1
                continue
        at, out, status = _write_special(src, at, stop, dst, out)
        if status != OK:
            return at, out, status


@kernel
def _write_special(src: Bytes, at: int, stop: int, dst: Bytes, out: int) -> tuple[int, int, int]:
    """Write the one character at `src[at]` that JSON escapes or UTF-8 spreads over several bytes."""
    byte = src[at]
    if byte >= 0x80:
        length = _utf8_length(src, at, stop)
        for i in range(length):
            dst[out + i] = src[at + i]
        return at + length, out + length, OK if length else BAD_UTF8
    dst[out] = BACKSLASH
    short = byte  # a quote or backslash stands for itself
    if byte < 0x20:
        short = 0
        if byte == LF:
            short = 0x6E
        elif byte == CR:
            short = 0x72
        elif byte == 0x09:
            short = 0x74
        elif byte == 0x08:
            short = 0x62
        elif byte == 0x0C:
            short = 0x66
    if short:
        dst[out + 1] = short
        return at + 1, out + 2, OK
    dst[out + 1] = 0x75
    dst[out + 2] = 0x30
    dst[out + 3] = 0x30
    dst[out + 4] = 0x30 + (byte >> 4)
    low = byte & 15
    dst[out + 5] = 0x30 + low if low < 10 else 0x57 + low
    return at + 1, out + 6, OK


@kernel
def _utf8_length(src: Bytes, at: int, stop: int) -> int:
    """Length of the well-formed sequence of two to four bytes at `src[at]`, or 0 (Unicode 15, table 3-7)."""
    first = src[at]
    low = 0x80
    high = 0xBF
    if 0xC2 <= first <= 0xDF:
        length = 2
    elif 0xE0 <= first <= 0xEF:
        length = 3
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    elif 0xF0 <= first <= 0xF4:
        length = 4
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    else:
        return 0
    if at + length > stop or src[at + 1] < low or src[at + 1] > high:
        return 0
    for i in range(2, length):
        if src[at + i] < 0x80 or src[at + i] > 0xBF:
            return 0
    return length


@kernel
def _varint_bytes(value: int) -> int:
    """Length of the zigzag varint of a value that is not negative."""
    length = 1
    value >>= 6
    while value:
        length += 1
        value >>= 7
    return length


@kernel
def _put_varint(dst: Bytes, at: int, value: int) -> int:
    value <<= 1
    while value >= 0x80:
        dst[at] = value & 0x7F | 0x80
        value >>= 7
        at += 1
    dst[at] = value
    return at + 1


@kernel
def _frame(dst: Bytes, at: int, value_at: int, value_end: int, offset_delta: int) -> tuple[int, int]:
    """Put the record header (KIP-98: no key, no headers) before the value; return (record end, header length)."""
    value_bytes = value_end - value_at
    body_bytes = 4 + _varint_bytes(offset_delta) + _varint_bytes(value_bytes) + value_bytes
    header = 3 + _varint_bytes(body_bytes) + _varint_bytes(offset_delta) + _varint_bytes(value_bytes)
    shift = at + header - value_at
    if shift > 0:
        for i in range(value_end - 1, value_at - 1, -1):
            dst[i + shift] = dst[i]
    elif shift < 0:
        for i in range(value_at, value_end):
            dst[i + shift] = dst[i]
    at = _put_varint(dst, at, body_bytes)
    dst[at] = 0  # attributes
    dst[at + 1] = 0  # timestamp delta
    at = _put_varint(dst, at + 2, offset_delta)
    dst[at] = 1  # key length -1: no key
    at = _put_varint(dst, at + 1, value_bytes) + value_bytes
    dst[at] = 0  # number of headers
    return at + 1, header
