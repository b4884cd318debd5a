"""Tell the C library to keep freed memory for the next block, in a process that does nothing but load.

Blocks and batches are megabytes that come and go hundreds of times a second. glibc would give each back to the
system and take it anew, zeroed page by page: a quarter of the throughput. Only the command line calls this, as it
concerns the whole process.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT_BYTES = 64 << 20
_MOST_KEPT_BYTES = 256 << 20


def keep_freed_memory() -> None:
    """Does nothing where the C library has no `mallopt` (macOS, musl)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
