"""`python -m tests.support.stub_run MODE GRACE_S ...`: the command line in a process of its own, over a stub of a job.

MODE: finish, until-stopped, hang (a call that lets no Python handler run), linger (stops, but leaves a thread).
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

import csv2kafka
from csv2kafka import signals
from csv2kafka.cli import main
from csv2kafka.metrics import MetricsSink
from csv2kafka.model import Sample, SourceIdentity
from csv2kafka.receipt import LaneReceipt, Receipt

SAMPLE = Sample(1_000_000, 66_000_000, 330_000_000, 1.0, 1_000_000.0, 4.0, 0.01, 1, 0)
RECEIPT = Receipt(
    "job", SourceIdentity("data.csv", 330_000_000, "etag"), "orders",
    (LaneReceipt("orders", 0, 0, 5_000_001),), "complete", 5_000_000, 5_000_000, 330_000_000,
    "fenced", 1, 0, 5.0, 1_000_000.0, 0, 0.5,
)  # fmt: skip


def run(
    _settings: object, *, sinks: Sequence[MetricsSink], stop: threading.Event, notify: Callable[[str], None]
) -> Receipt:
    notify("running")
    for sink in sinks:
        sink.record(SAMPLE)
    if MODE == "hang":
        mutex = ctypes.create_string_buffer(128)
        for _ in range(2):  # the second call never returns, whatever signals come
            ctypes.CDLL(None).pthread_mutex_lock(mutex)
    if MODE == "finish":
        for sink in sinks:
            sink.record(replace(SAMPLE, rows=5_000_000, bytes_done=330_000_000, elapsed_s=5.0, eta_s=0.0))
        return RECEIPT
    if MODE == "linger":
        threading.Thread(target=threading.Event().wait).start()
    stop.wait()
    return replace(RECEIPT, status="stopped", rows=1_000_000, rows_this_run=1_000_000, bytes=66_000_000)


if __name__ == "__main__":
    MODE, GRACE_S = sys.argv.pop(1), float(sys.argv.pop(1))
    signals.StopSignals = partial(signals.StopSignals, grace_s=GRACE_S)  # type: ignore[assignment, misc]
    jobs = ModuleType("csv2kafka.jobs")
    jobs.run = run  # type: ignore[attr-defined]
    sys.modules["csv2kafka.jobs"] = jobs
    csv2kafka.jobs = jobs
    main()
