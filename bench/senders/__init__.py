"""Python programs that compare.py measures beside csv2kafka: other clients, and the broker's limit. One file each.

    python -m bench.senders.NAME BOOTSTRAP TOPIC FILE ROWS [PENDING]

Each sends the first ROWS rows of a CSV file to partition 0 (lz4, acks=all, a failure ends it) and prints as JSON what
it took from the first row to the last acknowledgement: `loop_s`, and `loop_cpu_s` of all its threads. Imports and
connecting stay outside. Here is only what they share.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 120.0


@contextmanager
def timed() -> Iterator[None]:
    """Print what the block took."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    yield
    loop_s, loop_cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    print(json.dumps({"loop_s": loop_s, "loop_cpu_s": loop_cpu_s}))
