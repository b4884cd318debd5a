"""Waits for something to become true, with a deadline: what tests use in place of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(look: Callable[[], Found], what: str, *, patience_s: float = 30, pause_s: float = 0.01) -> Found:
    """The first true answer of `look`; AssertionError, saying what did not happen, when there is none in time."""
    deadline_s = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not within {patience_s:g} s: {what}"
        time.sleep(pause_s)
    return found
