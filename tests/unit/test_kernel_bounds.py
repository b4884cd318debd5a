"""No byte outside the buffers is ever read or written: told by Numba's bounds checking, and by canaries without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import csvgen, kernel_checks
from tests.support.kernel_checks import Arena, Call
from tests.support.record_oracle import Recipe, Rule
from tests.support.setup import Setup

ROOT = Path(__file__).parents[2]
FUZZED = ("same records", "every size", "every cut")
OVERRUNS = tuple(kernel_checks.overruns())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Numba's usual cache holds kernels without checks, and hands them out whatever NUMBA_BOUNDSCHECK says.
    return tmp_path_factory.mktemp("bounds-checked-kernels")


@pytest.fixture(scope="module")
def report(cache: Path) -> Any:
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "tests.support.kernel_checks", "200"]
    child = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(child.stdout)


@pytest.fixture(scope="module")
def control() -> dict[str, tuple[Arena, Call]]:
    """The overruns, run without anybody checking; and what the tests call, compiled before their clock runs."""
    calls = kernel_checks.overruns()
    for _, call in calls.values():
        call()
    kernel_checks.check_every_size(b"a\n1\n", Setup())
    return calls


class TestBoundsChecked:
    """The same inputs through kernels compiled with bounds checking, in a process of its own."""

    def test_checks_are_on_and_compiled_for_this_run(self, report: Any, cache: Path) -> None:
        assert (report["bounds_checked"], report["interpreted"]) == (True, False)
        assert list(cache.rglob("csvkernel.encode_rows*.nbc"))

    @pytest.mark.parametrize("check", FUZZED)
    def test_nothing_is_out_of_bounds(self, report: Any, check: str) -> None:
        assert report["failures"][check] == ""

    @pytest.mark.parametrize("overrun", OVERRUNS)
    def test_an_overrun_raises(self, report: Any, overrun: str) -> None:
        assert report["failures"][overrun] == ""

    def test_nothing_else_was_checked(self, report: Any) -> None:
        assert sorted(report["failures"]) == sorted([*FUZZED, *OVERRUNS])


@pytest.mark.usefixtures("control")
class TestCanaries:
    """The kernel as it runs in production, with its buffers amid bytes that must not change."""

    @pytest.mark.parametrize("overrun", [name for name in OVERRUNS if name.startswith("write")])
    def test_canaries_tell_an_overrun(self, overrun: str, control: dict[str, tuple[Arena, Call]]) -> None:
        assert not control[overrun][0].is_intact

    @settings(max_examples=10, deadline=None, print_blob=True, derandomize="CI" in os.environ)
    @given(st.integers(0, 1 << 32), st.integers(1, 4))
    def test_every_buffer_size(self, number: int, step: int) -> None:
        data, setup = csvgen.case(kernel_checks.SEED, number)
        kernel_checks.check_every_size(data[:300], setup, step)

    @pytest.mark.parametrize(
        "body",
        [
            b"\0" * 40,
            b"\n".join([b"x" * 32] * 3),
            "é".encode() * 40,
            b'"' + b'""' * 40 + b'"',
            b",".join([b""] * 3),
            b",".join([b"\x1f" * 33] * 3) + b"\r\n" + b'"' + b'"",\n' * 9 + b'"' * 3,
            b"\n".join(b"%d" % row for row in range(130)),
        ],
        ids=["escapes", "vectors", "two bytes", "quotes", "empty fields", "mixed", "long deltas"],
    )
    def test_every_buffer_size_for_what_grows_most(self, body: bytes) -> None:
        columns = b"a,b,c" if body.count(b",") else b"a"
        kernel_checks.check_every_size(columns + b"\n" + body, Setup())

    def test_every_buffer_size_for_long_column_names(self) -> None:
        kernel_checks.check_every_size(kernel_checks.LONG_NAMES, Setup())

    @pytest.mark.parametrize("value_bytes", [70, 9000, 1 << 20])
    def test_a_long_row_behind_a_short_one(self, value_bytes: int) -> None:
        """The guessed header is short by as much as it can be: the whole value moves up."""
        file = b"a\n1\n" + b"x" * value_bytes
        kernel_checks.check_every_size(file, Setup(), last_sizes=200)

    def test_every_buffer_size_for_keys_of_columns_that_are_dropped(self) -> None:
        """Each leaves the record as soon as it is read, and stays in the key: its memory is the first to be full."""
        recipe = Recipe(rules=(Rule(), *[Rule(dropped=True)] * 5), key=(1, 2, 3, 4, 5))
        body = b"a,b,c,d,e,f\n" + b",".join([b"x", *[b"y" * 90] * 5]) + b"\n"
        kernel_checks.check_every_size(body, Setup(recipe=recipe))
