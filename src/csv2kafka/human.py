"""Numbers as people read them. Pure functions; decimal units, as disks and networks count."""

from __future__ import annotations

from csv2kafka.model import Part

_PREFIXES = ("", "k", "M", "G", "T", "P")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def part(part: Part | None) -> str:
    """Which of a file's rows, as far as is known before they are counted."""
    if part is None:
        return "all rows"
    return f"the rows from {part.first_row + 1:,} on (bytes {part.start_byte:,} to {part.end_byte:,})"


def rows_of(part: Part, rows: int) -> str:
    """The first so many rows of the part, as the file counts them."""
    if rows < 2:
        return f"row {part.first_row + 1:,}" if rows else f"no rows from {part.first_row + 1:,} on"
    return f"rows {part.first_row + 1:,} to {part.first_row + rows:,}"


def short(number: float) -> str:
    """Three digits and a prefix with its leading space: "999", "2.77 M", "331 k"."""
    power = 0
    while number >= 999.5 and power < len(_PREFIXES) - 1:
        number, power = number / 1000, power + 1
    if power == 0:
        return f"{number:.0f}"
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {_PREFIXES[power]}"


def size(size_bytes: float) -> str:
    text = short(size_bytes)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def clock(duration_s: float) -> str:
    """H:MM:SS, or M:SS below an hour."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(duration_s: float) -> str:
    return f"{duration_s:.1f} s" if duration_s < 60 else clock(duration_s)
