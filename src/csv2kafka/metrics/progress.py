"""How far a job is, on stderr: a bar on a terminal, elsewhere a log line every 10 seconds. Never on stdout.

Rates and times come with the samples; nothing is measured here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from csv2kafka import human
from csv2kafka.metrics import MetricsSink, progress_ratio
from csv2kafka.model import Sample

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LINE_EVERY_S = 10.0
_MIN_BAR_COLUMNS = 8
# A terminal that does not take what is written to it (Ctrl-S, a dead connection) must not keep the process.
_CLOSE_PATIENCE_S = 1.0

log = logging.getLogger(__name__)


def progress_sink() -> MetricsSink:
    """The sink that suits what stderr is now."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return ProgressBar()
    return ProgressLines()


def percent(sample: Sample) -> float:
    return 100.0 * progress_ratio(sample)


def facts(sample: Sample, *, is_last: bool) -> dict[str, str]:
    """What is known of a sample, in the order of reading; without an ETA once the job has ended."""
    bytes_per_s = sample.rows_per_s * sample.bytes_done / sample.rows if sample.rows else 0.0
    known = {
        "rows": human.plural(sample.rows, "row"),
        "rate": f"{human.short(sample.rows_per_s)} rows/s",
        "throughput": f"{human.size(bytes_per_s)}/s",
        "elapsed": f"in {human.clock(sample.elapsed_s)}",
    }
    if sample.fleet is not None:
        complete, count, noun = sample.fleet
        known = {"files": f"{complete:,} of {human.plural(count, noun)}", **known}
    if sample.bad_rows:
        known["bad"] = human.plural(sample.bad_rows, "bad row")
    if sample.throttled_s > 0:
        known["throttled"] = f"throttled {human.duration(sample.throttled_s)}"
    if sample.retries:
        known["retries"] = f"retries: {sample.retries}"
    if not is_last:
        known["eta"] = f"ETA {'--:--' if sample.eta_s is None else human.clock(sample.eta_s)}"
    return known


class ProgressLines:
    """One log line for the first sample, for every 10 s, and for the last one."""

    def __init__(self) -> None:
        self._newest: Sample | None = None
        self._shown: Sample | None = None

    def record(self, sample: Sample) -> None:
        self._newest = sample
        if self._shown is None or sample.elapsed_s - self._shown.elapsed_s >= _LINE_EVERY_S:
            self._show(sample, is_last=False)

    def close(self) -> None:
        if self._newest is not None and self._newest != self._shown:
            self._show(self._newest, is_last=True)

    def _show(self, sample: Sample, *, is_last: bool) -> None:
        self._shown = sample
        log.info("%.1f %%, %s", percent(sample), ", ".join(facts(sample, is_last=is_last).values()))


class ProgressBar:
    """A bar that a thread of its own paints: a terminal that stands still does not hold the job up."""

    def __init__(self) -> None:
        self._newest: Sample | None = None
        self._is_closed = False
        self._wake = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="progress", daemon=True)

    def record(self, sample: Sample) -> None:
        if self._newest is None and not self._is_closed:
            self._painter.start()
        self._newest = sample
        self._wake.set()

    def close(self) -> None:
        """Leave the last state as a line of its own. May be called again."""
        self._is_closed = True
        self._wake.set()
        if self._painter.ident is not None:
            self._painter.join(_CLOSE_PATIENCE_S)

    def _paint(self) -> None:
        from rich.live import Live  # noqa: PLC0415  # seldom needed and slow to import

        console = _console()
        live = Live(console=console, auto_refresh=False, redirect_stdout=False)
        with contextlib.suppress(OSError, ValueError), live:  # a terminal that is gone fails no job
            while True:
                self._wake.wait()
                self._wake.clear()
                is_last = self._is_closed  # read before the sample: nothing comes after close
                if self._newest is not None:
                    live.update(bar_line(self._newest, console.width, is_last=is_last), refresh=True)
                if is_last:
                    return


def bar_line(sample: Sample, columns: int, *, is_last: bool) -> RenderableType:
    """One line of at most `columns`: percent, bar, and as many facts as leave the bar room."""
    from rich.progress_bar import ProgressBar as Bar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    head, known = f"{percent(sample):5.1f} %", facts(sample, is_last=is_last)
    for least_wanted in ("", "retries", "elapsed", "throughput", "rows", "throttled", "rate", "bad", "files", "eta"):
        known.pop(least_wanted, None)
        tail = " · ".join(known.values())
        if len(head) + 1 + _MIN_BAR_COLUMNS + 1 + len(tail) <= columns:
            break
    line = Table.grid(padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    line.add_column(no_wrap=True, min_width=len(head))
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, min_width=len(tail))
    line.add_row(head, Bar(total=max(1, sample.bytes_total), completed=sample.bytes_done), tail)
    return line


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    class CursorKeeper(Console):
        """Never hides the cursor: after a kill -9 nobody would bring it back."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    return CursorKeeper(stderr=True, highlight=False)
