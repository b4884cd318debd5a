"""What is a number, a date, a JSON text: verdicts on a field's bytes, compiled. Nothing is ever converted here.

Numbers are those that JSON can spell: no plus, no leading zeros, no bare point. Everything is ASCII, apart from what
lies inside the strings of a JSON text, whose UTF-8 has been looked at before.
"""

from __future__ import annotations

import numpy as np

from csv2kafka.simd import Bytes, kernel

STRING, INT, FLOAT, DECIMAL, BOOL, DATE, TIMESTAMP, JSON = range(8)
MAX_DEPTH = 512  # of arrays and objects within each other in a JSON text

_LARGEST = 308  # the exponent of the largest double
# The least number that is nearer to infinity than to the largest double, digit by digit.
_INFINITE = np.frombuffer(str(2**1024 - 2**970).encode(), np.uint8)

_ZERO, _NINE = 0x30, 0x39
_MINUS, _PLUS, _POINT, _COLON = 0x2D, 0x2B, 0x2E, 0x3A
_E, _LOWER = 0x65, 0x20
_QUOTE, _BACKSLASH, _COMMA = 0x22, 0x5C, 0x2C
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = 0x7B, 0x7D, 0x5B, 0x5D


@kernel
def fits(kind: int, text: Bytes, start: int, end: int, depths: Bytes) -> bool:
    """Whether `text[start:end]` is of the kind. `depths`: room for MAX_DEPTH bytes."""
    if kind in (INT, FLOAT, DECIMAL):
        number_end, is_int = number(text, start, end)
        if number_end != end or start == end:
            return False
        if kind == INT:
            return is_int
        return kind == DECIMAL or is_finite(text, start, end)
    if kind == BOOL:
        return truth(text, start, end) >= 0
    if kind == DATE:
        return date_end(text, start, end) == end
    if kind == TIMESTAMP:
        return is_timestamp(text, start, end)
    return is_json(text, start, end, depths)


@kernel
def _is_digit(text: Bytes, at: int, end: int) -> bool:
    return at < end and _ZERO <= text[at] <= _NINE


@kernel
def _digits_end(text: Bytes, at: int, end: int) -> int:
    while _is_digit(text, at, end):
        at += 1
    return at


@kernel
def number(text: Bytes, start: int, end: int) -> tuple[int, bool]:
    """(where the JSON number that begins at `start` ends, or `start`; whether it is an integer)."""
    at = start
    if at < end and text[at] == _MINUS:
        at += 1
    if not _is_digit(text, at, end):
        return start, False
    at = at + 1 if text[at] == _ZERO else _digits_end(text, at, end)
    is_int = True
    if at < end and text[at] == _POINT:
        if not _is_digit(text, at + 1, end):
            return at, True
        at = _digits_end(text, at + 1, end)
        is_int = False
    if at < end and text[at] | _LOWER == _E:
        exponent = at + 1
        if exponent < end and text[exponent] in (_PLUS, _MINUS):
            exponent += 1
        if _is_digit(text, exponent, end):
            return _digits_end(text, exponent, end), False
    return at, is_int


@kernel
def is_finite(text: Bytes, start: int, end: int) -> bool:
    """Whether the JSON number `text[start:end]` is a double, and not beyond the largest."""
    power = 0  # of ten, that the digit before the point counts
    first = end  # the first digit that is not zero
    mantissa_end = end
    point = end
    for at in range(start, end):
        byte = text[at]
        if byte | _LOWER == _E:
            mantissa_end = at
            break
        if byte == _POINT:
            point = at
        elif byte not in (_ZERO, _MINUS) and first == end:
            first = at
    point = min(point, mantissa_end)
    if first == end:
        return True
    power = point - first - 1 if first < point else point - first
    power += _exponent(text, mantissa_end, end)
    if power != _LARGEST:
        return power < _LARGEST
    place = 0
    for at in range(first, mantissa_end):
        if text[at] != _POINT:
            if text[at] != _INFINITE[place]:
                return bool(text[at] < _INFINITE[place])
            place += 1
            if place == _INFINITE.size:
                return False
    for rest in range(place, _INFINITE.size):
        if _INFINITE[rest] != _ZERO:
            return True
    return False


@kernel
def _exponent(text: Bytes, at: int, end: int) -> int:
    """The exponent that is written from the e at `at` on: 0 without one, and never so large that it overflows."""
    exponent = 0
    negative = False
    for i in range(at + 1, end):
        if text[i] == _MINUS:
            negative = True
        elif text[i] != _PLUS and exponent < 1 << 40:
            exponent = 10 * exponent + int(text[i] - _ZERO)
    return -exponent if negative else exponent


@kernel
def truth(text: Bytes, start: int, end: int) -> int:
    """1 for true, t and 1; 0 for false, f and 0; in any case of letters. -1 for everything else."""
    if end == start + 1:
        first = text[start]
        if first == _ZERO or first | _LOWER == 0x66:
            return 0
        return 1 if first == _ZERO + 1 or first | _LOWER == 0x74 else -1
    if _is_word(text, start, end, 0x74, 0x72, 0x75, 0x65):
        return 1
    if end == start + 5 and text[start] | _LOWER == 0x66 and _is_word(text, start + 1, end, 0x61, 0x6C, 0x73, 0x65):
        return 0
    return -1


@kernel
def _is_word(text: Bytes, start: int, end: int, a: int, b: int, c: int, d: int) -> bool:
    """Whether the text is these four letters, upper or lower case."""
    if end != start + 4:
        return False
    if text[start] | _LOWER != a or text[start + 1] | _LOWER != b:
        return False
    return bool(text[start + 2] | _LOWER == c and text[start + 3] | _LOWER == d)


@kernel
def _two(text: Bytes, at: int, end: int) -> int:
    """The number of two digits at `at`, or -1."""
    if not (_is_digit(text, at, end) and _is_digit(text, at + 1, end)):
        return -1
    return int(10 * (text[at] - _ZERO) + (text[at + 1] - _ZERO))


@kernel
def date_end(text: Bytes, start: int, end: int) -> int:
    """Behind the date YYYY-MM-DD of the (proleptic) calendar, or -1."""
    century = _two(text, start, end)
    years = _two(text, start + 2, end)
    if end - start < 10 or text[start + 4] != _MINUS or text[start + 7] != _MINUS:
        return -1
    month = _two(text, start + 5, end)
    day = _two(text, start + 8, end)
    if century < 0 or years < 0 or century + years == 0 or month < 1 or month > 12 or day < 1:
        return -1
    days = 31
    if month in (4, 6, 9, 11):
        days = 30
    elif month == 2:
        is_leap = (years % 4 == 0) if years else (century % 4 == 0)
        days = 29 if is_leap else 28
    return start + 10 if day <= days else -1


@kernel
def is_timestamp(text: Bytes, start: int, end: int) -> bool:
    """YYYY-MM-DD, a T or a blank, HH:MM, perhaps :SS, perhaps a fraction, perhaps Z, +HH:MM, +HHMM or +HH."""
    at = date_end(text, start, end)
    if at < 0 or at >= end or text[at] not in (0x54, 0x20):
        return False
    at += 1
    hour = _two(text, at, end)
    if hour < 0 or hour > 23 or end - at < 5 or text[at + 2] != _COLON or not _is_sixtieth(text, at + 3, end):
        return False
    at += 5
    if at < end and text[at] == _COLON:
        if not _is_sixtieth(text, at + 1, end):
            return False
        at += 3
        if at < end and text[at] == _POINT:
            fraction = _digits_end(text, at + 1, end)
            if fraction == at + 1:
                return False
            at = fraction
    return at == end or _is_zone(text, at, end)


@kernel
def _is_sixtieth(text: Bytes, at: int, end: int) -> bool:
    return 0 <= _two(text, at, end) < 60


@kernel
def _is_zone(text: Bytes, at: int, end: int) -> bool:
    if text[at] == 0x5A:
        return at + 1 == end
    if text[at] not in (_PLUS, _MINUS):
        return False
    hour = _two(text, at + 1, end)
    if hour < 0 or hour > 23:
        return False
    at += 3
    if at == end:
        return True
    if text[at] == _COLON:
        at += 1
    return at + 2 == end and _is_sixtieth(text, at, end)


@kernel
def _blank_end(text: Bytes, at: int, end: int) -> int:
    while at < end and text[at] in (0x20, 0x09, 0x0A, 0x0D):
        at += 1
    return at


@kernel
def is_json(text: Bytes, start: int, end: int, depths: Bytes) -> bool:
    """Whether the text is one JSON value (RFC 8259), nested no deeper than MAX_DEPTH."""
    at = start
    depth = 0
    while True:
        at = _blank_end(text, at, end)
        if at >= end:
            return False
        byte = text[at]
        if byte in (_OPEN_OBJECT, _OPEN_ARRAY):
            if depth == MAX_DEPTH:
                return False
            depths[depth] = byte
            depth += 1
            at = _blank_end(text, at + 1, end)
            if at < end and text[at] == byte + 2:  # closed at once: } is { + 2, and ] is [ + 2
                depth -= 1
                at += 1
            else:
                if byte == _OPEN_OBJECT:
                    at = _name_end(text, at, end)
                    if at < 0:
                        return False
                continue
        else:
            at = _scalar_end(text, at, end)
            if at < 0:
                return False
        while True:  # behind a value: close what it closes, up to the next comma
            at = _blank_end(text, at, end)
            if depth == 0:
                return at == end
            if at >= end:
                return False
            if text[at] == depths[depth - 1] + 2:
                depth -= 1
                at += 1
                continue
            break
        if text[at] != _COMMA:
            return False
        at += 1
        if depths[depth - 1] == _OPEN_OBJECT:
            at = _name_end(text, _blank_end(text, at, end), end)
            if at < 0:
                return False


@kernel
def _name_end(text: Bytes, at: int, end: int) -> int:
    """Behind the name at `at` and its colon, or -1."""
    if at >= end or text[at] != _QUOTE:
        return -1
    at = _string_end(text, at, end)
    if at < 0:
        return -1
    at = _blank_end(text, at, end)
    return at + 1 if at < end and text[at] == _COLON else -1


@kernel
def _scalar_end(text: Bytes, at: int, end: int) -> int:
    """Behind the string, number or word at `at`, or -1."""
    byte = text[at]
    if byte == _QUOTE:
        return _string_end(text, at, end)
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        number_end, _ = number(text, at, end)
        return number_end if number_end > at else -1
    word = min(end, at + 4)
    if byte == 0x66:
        at += 1
        word = min(end, at + 4)
        return word if _is_lower_word(text, at, word, 0x61, 0x6C, 0x73, 0x65) else -1
    if _is_lower_word(text, at, word, 0x74, 0x72, 0x75, 0x65) or _is_lower_word(text, at, word, 0x6E, 0x75, 0x6C, 0x6C):
        return word
    return -1


@kernel
def _is_lower_word(text: Bytes, at: int, end: int, a: int, b: int, c: int, d: int) -> bool:
    if end != at + 4:
        return False
    return bool(text[at] == a and text[at + 1] == b and text[at + 2] == c and text[at + 3] == d)


@kernel
def _string_end(text: Bytes, at: int, end: int) -> int:
    """Behind the string whose opening quote is at `at`, or -1."""
    at += 1
    while at < end:
        byte = text[at]
        if byte == _QUOTE:
            return at + 1
        if byte < 0x20:
            return -1
        if byte == _BACKSLASH:
            at += 1
            if at >= end:
                return -1
            byte = text[at]
            if byte == 0x75:
                if not _are_hex(text, at + 1, end):
                    return -1
                at += 4
            elif byte not in (_QUOTE, _BACKSLASH, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74):
                return -1
        at += 1
    return -1


@kernel
def _are_hex(text: Bytes, at: int, end: int) -> bool:
    """Whether four hexadecimal digits stand at `at`."""
    if end - at < 4:
        return False
    for i in range(at, at + 4):
        if not (_ZERO <= text[i] <= _NINE or 0x61 <= text[i] | _LOWER <= 0x66):
            return False
    return True
