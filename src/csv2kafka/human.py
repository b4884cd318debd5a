"""Numbers as people read them. Pure functions; decimal units, as disks and networks count."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


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
