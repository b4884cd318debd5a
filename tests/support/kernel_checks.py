"""The kernel called with buffers of exactly the sizes it asks for, and with buffers that are too small on purpose.

Runs in the tests' process against the compiled kernel, and as a child (`python -m tests.support.kernel_checks CASES`)
where the environment turns on bounds checking or turns the JIT off: then it prints what failed as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from csv2kafka import csvkernel as kernel
from csv2kafka import recordkernel, textkernel
from csv2kafka.csvkernel import PADDING, SLACK
from csv2kafka.plan import is_plain, make_plan
from csv2kafka.plan import prefixes_of as planned_prefixes_of
from csv2kafka.rangekernel import STATES, run_tracks
from csv2kafka.recordkernel import FIRST_BYTE
from csv2kafka.simd import WIDTH, Bytes, Offsets, copy32, copy_until_special, matches
from tests.support import chain, csv_oracle, csvgen
from tests.support.setup import Setup, padded

SEED = 20
GUARD_BYTES = 512
_CANARY = 0xA5
_ALL_ROWS = 1 << 62
COMMA, QUOTE = ord(","), ord('"')
LONG_NAMES = b"a" * 200 + b"," + b"b" * 333 + b"\n1,2\n,\n"  # a prefix longer than SLACK has to be foreseen as well


class Arena:
    """A buffer inside a larger one whose bytes on both sides must never change."""

    def __init__(self, size_bytes: int, content: bytes = b"") -> None:
        self._all: Bytes = np.full(size_bytes + 2 * GUARD_BYTES, _CANARY, np.uint8)
        self.inner: Bytes = self._all[GUARD_BYTES : GUARD_BYTES + size_bytes]
        self.inner[: len(content)] = np.frombuffer(content, np.uint8)

    @property
    def source(self) -> Bytes:
        """The inner buffer as sources are in production: read-only, for which Numba compiles code of its own."""
        source = self.inner.view()
        source.flags.writeable = False
        return source

    @property
    def is_intact(self) -> bool:
        before, behind = self._all[:GUARD_BYTES], self._all[GUARD_BYTES + self.inner.size :]
        return bool((before == _CANARY).all() and (behind == _CANARY).all())


def exactly(content: bytes) -> Bytes:
    """The content as an array that ends with it; what lies behind in memory is a canary."""
    return Arena(len(content), content).source


def prefixes_of(columns: tuple[str, ...]) -> tuple[Bytes, Offsets]:
    """What encode_rows writes before each field, with exactly PADDING bytes behind the last."""
    texts = [
        ('{"' if not number else '","') + json.dumps(name, ensure_ascii=False)[1:] + ':"'
        for number, name in enumerate(columns)
    ]
    prefixes = [text.encode() for text in texts]
    return exactly(b"".join(prefixes) + bytes(PADDING)), np.cumsum([0, *map(len, prefixes)], dtype=np.int64)


def encode_into(
    dst: Bytes, body: bytes, columns: tuple[str, ...], setup: Setup, first_byte: int = 0
) -> tuple[int, int, int, int]:
    """encode_rows over a source with exactly PADDING bytes behind it, into one lane; with a plan where it takes one."""
    shape = setup.shape(columns)
    delimiter, quote = ord(shape.dialect.delimiter), ord(shape.dialect.quote)
    src = exactly(padded(body))
    if is_plain(shape):
        prefixes, prefix_at = prefixes_of(columns)
        return kernel.encode_rows(src, 0, len(body), delimiter, quote, prefixes, prefix_at, dst, 0, 0, _ALL_ROWS, None)
    prefixes, prefix_at = planned_prefixes_of(shape, planned=True)
    key = Arena(dst.size)
    plan = make_plan(shape, 1, dst.size)._replace(key=key.inner)
    plan.notes[FIRST_BYTE] = first_byte
    exact = exactly(prefixes.tobytes())
    out = kernel.encode_rows(src, 0, len(body), delimiter, quote, exact, prefix_at, dst, 0, 0, _ALL_ROWS, plan)
    assert key.is_intact
    return out


def check_every_size(data: bytes, setup: Setup, step: int = 1, *, last_sizes: int = 1 << 62) -> None:
    """Encode into buffers of every size from nothing up: never a byte outside, and always whole records of the same.

    Only the `last_sizes` below what is surely enough, for files that are too large to try all.
    Raises AssertionError. Nothing happens for a file whose header must be refused.
    """
    expected = setup.expected(data)
    if expected.columns is None or expected.unclosed:
        return
    body, columns, first_byte = data[expected.header_end_byte :], expected.columns, expected.header_end_byte
    whole = Arena(16 * len(body) + 300 * (len(body) + 1) * len(columns) + 4096)
    end, written, rows, status = encode_into(whole.inner, body, columns, setup, first_byte)
    records = whole.inner[:written].tobytes()
    assert csv_oracle.parse(records) == list(expected.records)
    assert whole.is_intact
    frames = [csv_oracle.frame_record(record, number) for number, record in enumerate(expected.records)]
    ends = np.cumsum([0, *map(len, frames)]).tolist()
    enough = written + SLACK + WIDTH
    plain = is_plain(setup.shape(columns))
    largest = enough if plain else enough + 8 * len(body)  # a plan may drop what it had to write first
    for size_bytes in range(max(0, enough - last_sizes), largest + 1, step):
        arena = Arena(size_bytes)
        at, got_bytes, got_rows, got_status = encode_into(arena.inner, body, columns, setup, first_byte)
        assert arena.is_intact, f"bytes outside a buffer of {size_bytes} were written"
        assert got_bytes == ends[got_rows], f"{got_rows} rows in {got_bytes} bytes"
        assert arena.inner[:got_bytes].tobytes() == records[:got_bytes]
        if got_status == kernel.FULL:
            start, _ = expected.extents[got_rows]
            assert at + expected.header_end_byte == start, f"row {got_rows + 1} begins at {start}, not {at}"
        else:
            assert (at, got_bytes, got_rows, got_status) == (end, written, rows, status)
    if status == kernel.OK and plain:  # no buffer is refused that has SLACK to spare and room for the longest header
        assert encode_into(Arena(enough).inner, body, columns, setup)[3] == kernel.OK


def check_scan(data: bytes, setup: Setup) -> None:
    """Count rows in a source with exactly PADDING bytes behind it, cut at every place. Raises AssertionError."""
    expected, dialect = setup.expected(data), setup.dialect
    if expected.columns is None:
        return
    body = data[expected.header_end_byte :]
    delimiter, quote = ord(dialect.delimiter), ord(dialect.quote)
    ends = [end - expected.header_end_byte for _, end in expected.extents]
    for cut in range(len(body) + 1):
        head = exactly(padded(body[:cut]))
        rows, row_start, at, in_quotes = kernel.scan_rows(
            head, 0, cut, 0, False, False, delimiter, quote, dialect.escape_byte, _ALL_ROWS
        )
        assert rows == sum(end < cut for end in ends), f"{rows} rows before byte {cut}"
        assert not body[ends[rows - 1] if rows else 0 : row_start].strip(b"\r\n")
        whole_body = exactly(padded(body))
        more, _, at, in_quotes = kernel.scan_rows(
            whole_body, at, len(body), row_start, in_quotes, True, delimiter, quote, dialect.escape_byte, _ALL_ROWS
        )
        whole = [end for end in ends if end < len(body)]  # a last row without a line end is not counted
        assert (rows + more, in_quotes) == (len(whole), expected.unclosed), f"resumed at {cut}: {rows} + {more} rows"


Call = Callable[[], Any]


def overruns() -> dict[str, tuple[Arena, Call]]:
    """Calls that leave the named array on purpose, by up to WIDTH bytes, with the arena around that array.

    Harmless without bounds checking, for the arena's guard takes the blow.
    """
    row = b"x" * 31 + b"\n"
    src = exactly(padded(row))
    prefixes, prefix_at = prefixes_of(("a",))
    prefix_bytes = int(prefix_at[-1])
    lie = 1 << 30
    bare = Arena(len(row), row)  # a source with no padding
    half = Arena(40, b"\xe3" * 40)
    bare_prefixes = Arena(prefix_bytes, prefixes[:prefix_bytes].tobytes())
    small, tight, tiny, short, framed = Arena(16), Arena(prefix_bytes + WIDTH), Arena(3), Arena(WIDTH), Arena(60)
    commas, lane = Arena(40, b"," * 40), Arena(WIDTH)
    placed, lane_end = np.array([WIDTH], np.int64), np.array([1], np.int64)
    roomy = Arena(4096).inner
    control = exactly(padded(b"\x01"))

    def encode(source: Bytes, heads: Bytes) -> Call:
        return lambda: kernel.encode_rows(source, 0, 31, COMMA, QUOTE, heads, prefix_at, roomy, 0, 0, _ALL_ROWS, None)

    def write_value(dst: Bytes) -> Call:
        return lambda: kernel._write_value(src, 0, len(row), COMMA, QUOTE, prefixes, prefix_at, dst, 0, lie, None)

    return {
        "read, vector, matches": (half, lambda: matches(half.source, 9, 0, 0, 0, 0)),
        "read, vector, copy32": (half, lambda: copy32(roomy, 0, half.source, 9)),
        "read, vector, copy_until_special": (half, lambda: copy_until_special(roomy, 0, half.source, 9, COMMA, COMMA)),
        "read, vector, scan_rows without padding": (
            bare,
            lambda: kernel.scan_rows(bare.source, 1, len(row), 0, False, True, COMMA, QUOTE, None, _ALL_ROWS),
        ),
        "read, vector, run_tracks without padding": (
            bare,
            lambda: run_tracks(bare.source[1:], 31, 0, COMMA, QUOTE, None, *np.zeros((3, STATES), np.int64)),
        ),
        "read, vector, encode_rows without padding": (bare, encode(bare.source[1:], prefixes)),
        "read, vector, prefixes without padding": (bare_prefixes, encode(src, bare_prefixes.source)),
        "read, byte, behind a lying stop": (half, lambda: textkernel.utf8_length(half.source, 39, lie)),
        "write, vector, copy32": (short, lambda: copy32(short.inner, 1, src, 0)),
        "write, vector, copy_until_special": (short, lambda: copy_until_special(short.inner, 1, src, 0, COMMA, COMMA)),
        "write, vector, a field under a lying limit": (
            small,
            lambda: kernel._copy_plain(src, 0, len(row), COMMA, small.inner, 0, lie, None),
        ),
        "write, vector, a prefix under a lying limit": (small, write_value(small.inner)),
        "write, byte, the end of a value": (tight, write_value(tight.inner)),
        "write, byte, an escape": (tiny, lambda: textkernel.write_special(control, 0, 1, tiny.inner, 0)),
        "write, byte, a varint": (tiny, lambda: recordkernel.put_varint(tiny.inner, 2, 300)),
        "write, byte, a value shifted": (framed, lambda: recordkernel.frame(framed.inner, 0, 5, 60, 0)),
        "write, byte, text quoted for CSV": (commas, lambda: textkernel.quote_for_csv(commas.inner, 0, 40)),
        "write, vector, records gathered": (lane, lambda: recordkernel.gather(src, placed, 1, lane_end, lane.inner)),
    }


def _failures(cases: int, step: int) -> dict[str, str]:
    """What went wrong, by the name of the check; "" where nothing did."""
    failures = dict.fromkeys(("same records", "every size", "every cut"), "")
    for number in range(cases):
        data, setup = csvgen.case(SEED, number)
        checks: dict[str, Call] = {"same records": partial(chain.compare, data, setup)}
        if len(data) < 300 and number % 5 == 0:
            checks["every size"] = partial(check_every_size, data, setup, step)
            checks["every cut"] = partial(check_scan, data, setup)
        for name, check in checks.items():
            failures[name] = failures[name] or _failure(number, check)
    failures["every size"] = failures["every size"] or _failure(
        -1, partial(check_every_size, LONG_NAMES, Setup(), step)
    )
    for name, (_, call) in overruns().items():
        try:
            call()
            failures[name] = "nothing was raised"
        except IndexError:
            failures[name] = ""
    return failures


def _failure(number: int, check: Call) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001  (told to the parent)
        return f"case {number} of seed {SEED}: {type(error).__name__}: {error}"
    return ""


def main() -> None:
    config: Any = numba.config
    mode = {"bounds_checked": bool(config.BOUNDSCHECK), "interpreted": bool(config.DISABLE_JIT)}
    json.dump({**mode, "failures": _failures(int(sys.argv[1]), 37 if config.DISABLE_JIT else 1)}, sys.stdout)


if __name__ == "__main__":
    main()
