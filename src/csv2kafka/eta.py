"""The one ETA function. Progress, samples and the plan's processor all ask here."""

from __future__ import annotations


def eta_s(done: float, total: float | None, elapsed_s: float) -> float | None:
    """Seconds left when work goes on at its mean rate so far.

    `done` and `total` share a unit (rows, bytes) and count what belongs to `elapsed_s`: a resumed run leaves out
    what earlier runs did. None while there is no telling: total unknown, nothing done, or no time gone by.
    """
    if total is None or done <= 0 or elapsed_s <= 0:
        return None
    return max(0.0, total - done) * elapsed_s / done
