"""The compiled first pass over one range of a file: the csv automaton, run from all states that may be entered in.

The automaton is that of `csvkernel.scan_rows`, spelled as states, so that a range may begin anywhere in a row. No I/O,
no clock, no Python objects here.

Sources need WIDTH readable bytes behind `stop`, whatever they hold.
"""

from __future__ import annotations

from csv2kafka.simd import WIDTH, Bytes, Offsets, inlined_kernel, kernel, lowest_bit, matches
from csv2kafka.textkernel import CR, LF

# Where a byte may find the automaton. ROW_START is also where a line end is a blank line: no row.
ROW_START, FIELD_START, IN_FIELD, IN_QUOTES, BEHIND_QUOTE, ESCAPED, ESCAPED_IN_QUOTES = range(7)
STATES = 7

NO_ROW = -1
_STEP_BYTES = 1 << 14  # what one track runs before the next one does: it stays in the first cache for all of them


@kernel
def run_tracks(
    src: Bytes,
    stop: int,
    first_byte: int,
    delimiter: int,
    quote: int,
    escape: int | None,
    states: Offsets,
    rows: Offsets,
    firsts: Offsets,
) -> None:
    """Run the tracks over `src[:stop]`, which is the file from `first_byte` on. Each is what became of an entry state.

    Of track t, `states[t]` is where it stands, `rows[t]` how many rows have ended in the range, `firsts[t]` the byte
    of the file behind the first of those, NO_ROW before it. Tracks that stand in the same state have the same future:
    it is run once for all of them. A few bytes leave two, inside and outside of quotes, and quotes often one.
    """
    at = 0
    while at < stop:
        step_end = min(at + _STEP_BYTES, stop)
        done = 0
        for track in range(STATES):
            if done >> track & 1 == 1:
                continue
            entry = states[track]
            state, ended, first = _run(src, at, step_end, entry, delimiter, quote, escape)
            for twin in range(track, STATES):
                if done >> twin & 1 == 0 and states[twin] == entry:
                    done |= 1 << twin
                    states[twin] = state
                    rows[twin] += ended
                    if firsts[twin] == NO_ROW and first != NO_ROW:
                        firsts[twin] = first_byte + first
        at = step_end


@kernel
def _run(
    src: Bytes, at: int, stop: int, state: int, delimiter: int, quote: int, escape: int | None
) -> tuple[int, int, int]:
    """From `state` over `src[at:stop]`: (the state behind it, rows that ended, where behind the first or NO_ROW)."""
    rows = 0
    first = NO_ROW
    while at < stop:
        if state < IN_QUOTES:
            at, state, ended, first_end = _run_outside(src, at, stop, state, delimiter, quote, escape)
            rows += ended
            if first == NO_ROW:
                first = first_end
        elif state == IN_QUOTES:
            found = matches(src, at, quote, quote, quote, quote if escape is None else escape)
            if found == 0:
                at += WIDTH
                continue
            at += lowest_bit(found)
            if at < stop:
                state = BEHIND_QUOTE if src[at] == quote else ESCAPED_IN_QUOTES
                at += 1
        else:
            state = _behind(src[at], state, delimiter, quote)
            at += 1
            if state == ROW_START:
                rows += 1
                if first == NO_ROW:
                    first = at
    return state, rows, first


@inlined_kernel
def _run_outside(
    src: Bytes, at: int, stop: int, state: int, delimiter: int, quote: int, escape: int | None
) -> tuple[int, int, int, int]:
    """The same outside of quotes, and only to behind the quote or escape that ends that: (where, and as `_run`)."""
    begin = at
    row_start = at if state == ROW_START else -1
    field_start = at if state == FIELD_START else -1
    rows = 0
    first = NO_ROW
    while at < stop:
        found = matches(src, at, LF, CR, quote, quote if escape is None else escape)
        base = at
        at += WIDTH
        while found != 0:
            here = base + lowest_bit(found)
            found &= found - 1
            if here >= stop:
                break
            if escape is not None:
                if src[here] == escape:
                    return here + 1, ESCAPED, rows, first
            if src[here] == quote:
                # A delimiter before `begin` may have been escaped: the state tells.
                if here in (row_start, field_start) or (here > begin and src[here - 1] == delimiter):
                    return here + 1, IN_QUOTES, rows, first
                continue  # a stray one is text
            if here != row_start:
                rows += 1
                if first == NO_ROW:
                    first = here + 1
            row_start = here + 1
    if row_start == stop:
        return stop, ROW_START, rows, first
    return stop, FIELD_START if src[stop - 1] == delimiter else IN_FIELD, rows, first


@kernel
def _behind(byte: int, state: int, delimiter: int, quote: int) -> int:
    """The state behind the byte that stands right behind a quote inside of quotes, or behind an escape."""
    if state == ESCAPED:
        return IN_FIELD
    if state == ESCAPED_IN_QUOTES or byte == quote:
        return IN_QUOTES
    if byte == delimiter:
        return FIELD_START
    return ROW_START if byte in (LF, CR) else IN_FIELD
