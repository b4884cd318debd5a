"""Seeded CSV files of every kind, for the campaign and for child processes: the same seed and number, the same case.

Only Python's `random` may be used, so that a case can be made again from its two numbers on any machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from csv2kafka.model import Dialect
from tests.support import recipes
from tests.support.record_oracle import Recipe
from tests.support.setup import Setup

_LINE_ENDS = ("\n", "\r\n", "\r")
_DELIMITERS = ",;\t|:^ \x00\x1f\\a"
_QUOTES = "\"'`|\\\x01b"
_ESCAPES = (None, None, "\\", "\\", "^", "!", "\x02")
SIZES = (1, 2, 3, 5, 7, 16, 31, 32, 33, 63, 64, 65, 100, 1000, 70_000)
BAD_UTF8 = (
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc3",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
)
_TEXTS = (
    "",
    "a",
    "0",
    " ",
    "\x00",
    "\x1f",
    "\x7f",
    "\\",
    "\t",
    "\b\f",
    "é",
    "ß",
    "日本",
    "😀",
    "\u2028",
    "\ufeff",
    "\U0010ffff",
)


def case(seed: int, number: int) -> tuple[bytes, Setup]:
    """The file and the way it is cut, of case `number` of the campaign `seed`."""
    rng = random.Random(f"{seed}/{number}")
    dialect = _dialect(rng)
    recipe = recipes.recipe(rng)
    (make,) = rng.choices((_grammar, _soup, _mutated, _wide, _long), (40, 30, 25, 3, 2))
    bom = b"\xef\xbb\xbf" if rng.random() < 0.1 else b""
    junk = "".join(rng.choice(("", "a", dialect.quote)) + rng.choice(_LINE_ENDS) for _ in range(recipe.skip_lines))
    data = bom + junk.encode() + make(rng, dialect, recipe)
    return data, _setup(rng, dialect, len(data), recipe)


def _dialect(rng: random.Random) -> Dialect:
    if rng.random() < 0.5:
        return Dialect()
    delimiter, quote, escape = rng.choice(_DELIMITERS), rng.choice(_QUOTES), rng.choice(_ESCAPES)
    if rng.random() < 0.3:
        delimiter, quote = ",", '"'
    return Dialect(delimiter, quote, escape) if len({delimiter, quote, escape}) == 3 else Dialect()


def _setup(rng: random.Random, dialect: Dialect, file_bytes: int, recipe: Recipe) -> Setup:
    sizes = [size for size in SIZES if 2000 * size >= file_bytes]  # a long file in single bytes would take minutes
    return Setup(
        dialect,
        tuple(rng.choice(sizes) for _ in range(rng.randint(1, 5))),
        tuple(rng.choice(sizes) for _ in range(rng.randint(1, 5))),
        rng.choice(("none", "none", "gzip", "snappy", "lz4", "zstd")),
        rng.choice((80, 100, 200, 400, 1000, 1 << 20, 1 << 30)),
        recipe,
        rng.choice((1, 2, 3, 8, 100)) if recipe.key else 1,
    )


def _text(rng: random.Random, dialect: Dialect, most: int) -> str:
    kind = rng.random()
    if kind < 0.3:
        return "x" * rng.randint(0, 70)
    escape = dialect.escape or ""
    atoms = (*_TEXTS, dialect.delimiter, dialect.quote, dialect.quote * 2, '"', escape, *_LINE_ENDS)
    return "".join(rng.choice(atoms) for _ in range(rng.randint(0, most)))


def _field(rng: random.Random, dialect: Dialect, recipe: Recipe, column: int, most: int = 6) -> str:
    """A field that csv reads as one: quoted where it must be, sometimes where it need not be."""
    suiting, quote = recipes.text_for(rng, recipe, column), dialect.quote
    text = _text(rng, dialect, most) if suiting is None else suiting
    if suiting is not None and dialect.escape is not None:
        text = text.replace(dialect.escape, 2 * dialect.escape)
    if any(special in text for special in (dialect.delimiter, "\n", "\r")) or text.startswith(quote):
        return quote + text.replace(quote, 2 * quote) + quote + rng.choice(("", "", "", "x", f"y{quote}z"))
    return quote + text.replace(quote, 2 * quote) + quote if rng.random() < 0.3 else text


def _header(columns: int, dialect: Dialect) -> str:
    names = [f"c{number}é"[: 3 if number % 7 else 9] + "_" * (number % 3) + str(number) for number in range(columns)]
    quoted = (dialect.quote + name.replace(dialect.quote, 2 * dialect.quote) + dialect.quote for name in names)
    return dialect.delimiter.join(quoted)


def _rows(rng: random.Random, dialect: Dialect, columns: int, rows: int, field: Callable[[int], str]) -> str:
    line_end = rng.choice((*_LINE_ENDS, ""))  # nothing: another one for each row
    out = [_header(columns, dialect) + (line_end or "\n")]
    for _ in range(rows):
        out.append(dialect.delimiter.join(field(column) for column in range(columns)))
        out.append(line_end or rng.choice(_LINE_ENDS))
        if rng.random() < 0.1:
            out.append(rng.choice(_LINE_ENDS) * rng.randint(1, 40))  # blank lines
    if rng.random() < 0.3:
        out.append(dialect.delimiter.join(field(column) for column in range(columns)))  # no final line end
    return "".join(out)


def _grammar(rng: random.Random, dialect: Dialect, recipe: Recipe) -> bytes:
    columns = rng.choice((1, 1, 2, 3, 5))
    return _rows(
        rng, dialect, columns, rng.randint(0, 20), lambda column: _field(rng, dialect, recipe, column)
    ).encode()


def _soup(rng: random.Random, dialect: Dialect, recipe: Recipe) -> bytes:
    """Bytes that mean something to somebody, in any order, mostly behind a good header."""
    special = [byte.encode() for byte in (dialect.delimiter, dialect.quote, dialect.escape or "", *_LINE_ENDS)]
    atoms = [*special, *special, *(text.encode() for text in _TEXTS)]
    if rng.random() < 0.3:
        atoms += BAD_UTF8
    elif rng.random() < 0.3:
        atoms += [bytes([byte]) for byte in range(256)]
    body = b"".join(rng.choice(atoms) for _ in range(rng.randint(0, 120)))
    header = _header(rng.choice((1, 1, 2, 3)), dialect).encode()
    return body if rng.random() < 0.05 else header + rng.choice((b"\n", b"\r\n", b"\r")) + body


def _mutated(rng: random.Random, dialect: Dialect, recipe: Recipe) -> bytes:
    """A well-formed file with a few bytes lost, doubled, replaced or put in."""
    data = bytearray(_grammar(rng, dialect, recipe))
    special = dialect.delimiter.encode(), dialect.quote.encode(), b"\n", b"\r", b"\0", *BAD_UTF8
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        end = at + rng.choice((0, 0, 1, 1, 2, 40))
        data[at:end] = rng.choice((b"", bytes(data[at:end]) * 2, rng.choice(special), rng.randbytes(1)))
    return bytes(data)


def _wide(rng: random.Random, dialect: Dialect, recipe: Recipe) -> bytes:
    columns = rng.choice((100, 300, 1000))
    return _rows(
        rng, dialect, columns, rng.randint(0, 4), lambda column: _field(rng, dialect, recipe, column, 2)
    ).encode()


def _long(rng: random.Random, dialect: Dialect, recipe: Recipe) -> bytes:
    def field(column: int) -> str:
        return _field(rng, dialect, recipe, column, 4) * rng.choice((1, 1, 1, 500, 5000))

    return _rows(rng, dialect, 2, rng.randint(1, 4), field).encode()
