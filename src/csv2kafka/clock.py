"""The one clock that deadlines over minutes may use: it goes on while a laptop sleeps, and nobody sets it."""

from __future__ import annotations

import time

# Elsewhere than on Linux the monotonic clock is the best there is; on macOS it stops while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime_s() -> float:
    """Seconds since some moment in the past, suspended time included."""
    return time.clock_gettime(_CLOCK)
