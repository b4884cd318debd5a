"""The kernels as plain Python: Python's own index errors, coverage's counts, and the vector steps' two spellings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csv2kafka import simd
from csv2kafka.simd import WIDTH, Bytes
from tests.support import kernel_checks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report() -> Any:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "tests.support.kernel_checks", "40"]
    child = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(child.stdout)


class TestInterpreted:
    def test_the_jit_is_off(self, report: Any) -> None:
        assert report["interpreted"]

    @pytest.mark.parametrize("check", ["same records", "every size", "every cut"])
    def test_python_agrees_with_the_oracle(self, report: Any, check: str) -> None:
        assert report["failures"][check] == ""

    @pytest.mark.parametrize("overrun", tuple(kernel_checks.overruns()))
    def test_an_overrun_raises(self, report: Any, overrun: str) -> None:
        assert report["failures"][overrun] == ""


def _vectors() -> list[bytes]:
    """Every byte in every lane, amid plain text and amid others like it; and vectors of any bytes."""
    rng = np.random.default_rng(7)
    lanes = [b"a" * lane + bytes([byte]) + b"a" * (WIDTH - 1 - lane) for byte in range(256) for lane in range(WIDTH)]
    return [*lanes, *(bytes([byte]) * WIDTH for byte in range(256)), *(rng.bytes(WIDTH) for _ in range(500))]


@pytest.fixture(scope="module")
def vectors() -> list[Bytes]:
    vectors = [kernel_checks.exactly(vector) for vector in _vectors()]
    dst = np.zeros(WIDTH, np.uint8)
    simd.copy32(dst, 0, vectors[0], 0)
    simd.copy_until_special(dst, 0, vectors[0], 0, 0, 0)
    simd.matches(vectors[0], 0, 0, 0, 0, 0)
    simd.lowest_bit(1)
    return vectors


class TestTwins:
    """Compiled (LLVM IR) and interpreted (Python) vector steps, lane by lane."""

    @pytest.mark.parametrize("at", [0, 1, 31])
    def test_copy32(self, vectors: list[Bytes], at: int) -> None:
        for vector in vectors[::7]:
            compiled, interpreted = kernel_checks.Arena(WIDTH + at), kernel_checks.Arena(WIDTH + at)
            simd.copy32(compiled.inner, at, vector, 0)
            simd._copy32_py(interpreted.inner, at, vector, 0)
            assert compiled.inner.tobytes() == interpreted.inner.tobytes()
            assert compiled.inner[at:].tobytes() == vector.tobytes()
            assert compiled.is_intact

    @pytest.mark.parametrize("others", [(0x2C, 0x2C), (0, 0x7F), (0x61, 0x2C)])
    def test_copy_until_special(self, vectors: list[Bytes], others: tuple[int, int]) -> None:
        compiled, interpreted = kernel_checks.Arena(WIDTH), kernel_checks.Arena(WIDTH)
        for vector in vectors:
            plain = simd.copy_until_special(compiled.inner, 0, vector, 0, *others)
            assert plain == simd._copy_until_special_py(interpreted.inner, 0, vector, 0, *others)
            assert compiled.inner.tobytes() == interpreted.inner.tobytes() == vector.tobytes()
        assert compiled.is_intact

    @pytest.mark.parametrize("wanted", [(10, 13, 0x22, 0x5C), (0x22,) * 4, (0, 0x7F, 0x61, 0), (0x80, 0xFF, 10, 1)])
    def test_matches(self, vectors: list[Bytes], wanted: tuple[int, int, int, int]) -> None:
        for vector in vectors[::3]:
            assert simd.matches(vector, 0, *wanted) == simd._matches_py(vector, 0, *wanted)

    def test_lowest_bit(self) -> None:
        rng = np.random.default_rng(8)
        for mask in [*(1 << bit for bit in range(WIDTH)), *(int(rng.integers(1, 1 << WIDTH)) for _ in range(500))]:
            assert simd.lowest_bit(mask) == simd._lowest_bit_py(mask)
            assert mask >> simd.lowest_bit(mask) & 1 == 1
            assert mask & ((1 << simd.lowest_bit(mask)) - 1) == 0
