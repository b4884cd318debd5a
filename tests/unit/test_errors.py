"""What a machine refuses a process becomes an operating error; a bug stays one."""

from __future__ import annotations

import errno

import pytest

from csv2kafka.errors import KINDS, Csv2KafkaError, machine_limit
from csv2kafka.kafka.sender import TakeOverAgain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "data.csv"), "may not open more files"),
        (OSError(errno.ENFILE, "Too many open files in system"), "may not open more files"),
        (RuntimeError("can't start new thread"), "threads"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "libx.so"),
        (ImportError("cmath.so: cannot map zero-fill pages"), "cmath.so"),
        (SystemError("error return without exception set"), "without exception set"),
        (SystemError("<function f> returned NULL without setting an exception"), "function f"),
        (OSError("Could not find/load shared object file 'libllvmlite.so' from resource location"), "libllvmlite.so"),
    ],
)
def test_a_limit_of_the_machine(error: BaseException, words: str) -> None:
    told = machine_limit(error)
    assert told is not None
    assert words in told.message
    assert told.exit_code == 75
    assert "run the same command again" in told.hint


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "no such file"),
        RuntimeError("a bug"),
        ImportError("No module named x"),
    ],
)
def test_anything_else_is_none(error: BaseException) -> None:
    assert machine_limit(error) is None


def test_a_limit_behind_another_error() -> None:
    error = KeyError("x")
    error.__context__ = MemoryError()
    assert machine_limit(error) is not None


def test_metrics_know_the_kind_of_every_error() -> None:
    def below(kind: type[Csv2KafkaError]) -> set[str]:
        return {kind.kind}.union(*map(below, kind.__subclasses__()))

    assert below(Csv2KafkaError) == set(KINDS)
    assert TakeOverAgain.kind == "kafka"
