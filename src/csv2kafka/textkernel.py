"""Characters on their way from CSV to JSON text, and from there back or to CSV: compiled, one field at a time.

What a field becomes is written as JSON text first. Everything else that may be wanted of it (a key's bytes, a type,
CSV again) is made from that, in place, as none of it is longer.
"""

from __future__ import annotations

from csv2kafka.simd import WIDTH, Bytes, kernel, lowest_bit, matches

OK = 0
FULL = 1  # the next row does not fit into the output
TOO_FEW_FIELDS = 2
TOO_MANY_FIELDS = 3
BAD_UTF8 = 4
UNCLOSED_QUOTE = 5
BAD_VALUE = 6  # the text is none of the column's type
BAD_NULL = 7  # no value where there must be one

LF = 0x0A
CR = 0x0D
QUOTE = 0x22
COMMA = 0x2C
BACKSLASH = 0x5C


@kernel
def write_character(src: Bytes, at: int, stop: int, dst: Bytes, out: int) -> tuple[int, int, int]:
    """Write the one character at `src[at]`, whatever it is, as JSON text."""
    byte = src[at]
    if byte < 0x20 or byte >= 0x80 or byte in (QUOTE, BACKSLASH):
        return write_special(src, at, stop, dst, out)
    dst[out] = byte
    return at + 1, out + 1, OK


@kernel
def write_special(src: Bytes, at: int, stop: int, dst: Bytes, out: int) -> tuple[int, int, int]:
    """Write the one character at `src[at]` that JSON escapes or UTF-8 spreads over several bytes."""
    byte = src[at]
    if byte >= 0x80:
        length = utf8_length(src, at, stop)
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
def utf8_length(src: Bytes, at: int, stop: int) -> int:
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
def equal(text: Bytes, start: int, other: Bytes, length: int) -> bool:
    """Whether `text[start:start+length]` is `other[:length]`."""
    for i in range(length):
        if text[start + i] != other[i]:
            return False
    return True


@kernel
def unescape(text: Bytes, start: int, end: int) -> int:
    """Turn JSON text as `write_special` writes it back into what it stands for, in place; return its new end."""
    at = start
    while at < end:
        found = matches(text, at, BACKSLASH, BACKSLASH, BACKSLASH, BACKSLASH)
        if found:
            at += lowest_bit(found)
            break
        at += WIDTH
    if at >= end:
        return end
    out = at
    while at < end:
        byte = text[at]
        if byte == BACKSLASH:
            at += 1
            byte = _escaped(text, at)
            if text[at] == 0x75:
                at += 4
        text[out] = byte
        at += 1
        out += 1
    return out


@kernel
def _escaped(text: Bytes, at: int) -> int:
    """What the escape stands for whose character behind the backslash is `text[at]`."""
    byte = text[at]
    if byte == 0x6E:
        return LF
    if byte == 0x72:
        return CR
    if byte == 0x74:
        return 0x09
    if byte == 0x62:
        return 0x08
    if byte == 0x66:
        return 0x0C
    if byte == 0x75:
        low = text[at + 4]
        return int(16 * (text[at + 3] - 0x30) + (low - 0x30 if low < 0x3A else low - 0x57))
    return int(byte)


@kernel
def quote_for_csv(text: Bytes, start: int, end: int) -> int:
    """Put plain text between quotes where CSV asks for them (a comma, quote or line end in it); return its new end.

    In place: what was unescaped before has left room for all that this adds but two bytes.
    """
    quotes = 0
    is_special = False
    at = start
    while at < end:
        found = matches(text, at, COMMA, QUOTE, LF, CR)
        if end - at < WIDTH:
            found &= (1 << (end - at)) - 1
        while found:
            is_special = True
            quotes += text[at + lowest_bit(found)] == QUOTE
            found &= found - 1
        at += WIDTH
    if not is_special:
        return end
    out = end + quotes + 1
    text[out] = QUOTE
    for i in range(end - 1, start - 1, -1):
        out -= 1
        text[out] = text[i]
        if text[i] == QUOTE:
            out -= 1
            text[out] = QUOTE
    text[start] = QUOTE
    return end + quotes + 2
