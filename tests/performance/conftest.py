"""The large file of the performance tests, and one row of it loaded before anything is measured."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import data
from csv2kafka.devbroker import Broker
from tests.support.loads import Load

LARGE_ROWS = 1_000_000
_LARGE_CSV = Path(__file__).parent.parent / "fixtures" / "large_data.csv"


@pytest.fixture(scope="session")
def large_csv() -> Path:
    """tests/fixtures/large_data.csv: a million rows of five columns, some quoted, some with newlines in them."""
    partial = _LARGE_CSV.with_suffix(f".{os.getpid()}.csv")
    data.write(partial, LARGE_ROWS)
    if _LARGE_CSV.exists() and filecmp.cmp(partial, _LARGE_CSV, shallow=False):
        partial.unlink()  # another test run may be reading the file: replaced, it would be a changed source
    else:
        partial.replace(_LARGE_CSV)
    return _LARGE_CSV


@pytest.fixture
def make_load(broker: Broker, make_topic: Callable[..., str], tmp_path: Path) -> Callable[..., Load]:
    """`make_load(path, config={...})` is a job into a topic of its own; the kernel is compiled, the broker warm."""

    def make_load(path: Path, config: dict[str, str] | None = None) -> Load:
        topic = make_topic(config=config or {})
        return Load(broker.bootstrap, path, topic, tmp_path / f"{topic}.db")

    first_row = tmp_path / "first_row.csv"
    data.write(first_row, 1)
    make_load(first_row).run()
    return make_load
