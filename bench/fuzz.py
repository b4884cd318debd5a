"""The seeded campaign: random files, cut at random, through the whole chain and through csv and json.

    python -m bench.fuzz --seconds 30 --seed 1 [--jobs 2]     run the campaign
    python -m bench.fuzz --seed 1 --case 4711                 run one case of it again

Every case follows from its seed and number alone. A difference is shrunk, shown with both outputs, and exits with 1.
The generators and the comparison are the tests' own; only running them for long may live here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from csv2kafka.errors import BadHeader
from csv2kafka.model import Position
from csv2kafka.splitter import read_header
from tests.support import chain, csvgen
from tests.support.record_oracle import PLAIN, Recipe
from tests.support.setup import Different, Setup

SHRINKING_S = 20.0
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Worker:
    """A process of its own, so that even a crash is found out together with the case that caused it."""

    process: BaseProcess
    case: Synchronized[int]
    cases: Synchronized[int]
    rows: Synchronized[int]
    failed: Synchronized[int]


def _work(seed: int, first: int, step: int, seconds: float, shared: tuple[Any, Any, Any, Any]) -> None:
    """Run cases `first`, `first + step` ... until the time is up or one fails."""
    case, cases, rows, failed = shared
    chain.difference(b"a\n1\n", Setup())  # compiling does not count
    deadline = time.monotonic() + seconds
    number = first
    while time.monotonic() < deadline and not failed.value:
        case.value = number
        data, setup = csvgen.case(seed, number)
        try:
            rows.value += chain.compare(data, setup)
        except Exception:  # noqa: BLE001  (told by the parent, which runs the case again)
            failed.value = 1
            return
        cases.value += 1
        number += step


def campaign(seed: int, seconds: float, jobs: int) -> int:
    """The exit code: 0 when no case differed, 1 when one did."""
    began = time.monotonic()
    workers = [_start(seed, first, jobs, seconds) for first in range(jobs)]
    while any(worker.process.is_alive() for worker in workers):
        time.sleep(0.05)
        if any(worker.failed.value or worker.process.exitcode for worker in workers):
            for worker in workers:
                worker.failed.value = worker.failed.value or 2  # stop, though nothing is wrong here
            break
    for worker in workers:
        worker.process.join()
    elapsed_s = time.monotonic() - began
    cases = sum(worker.cases.value for worker in workers)
    rows = sum(worker.rows.value for worker in workers)
    print(f"seed {seed}: {cases} cases, {rows} rows, {elapsed_s:.1f} s, {cases / elapsed_s:.0f} cases/s")
    for worker in workers:
        if worker.process.exitcode:
            print(f"case {worker.case.value}: the process ended with {worker.process.exitcode}")
            print(f"again: python -m bench.fuzz --seed {seed} --case {worker.case.value}")
            return 1
        if worker.failed.value == 1:
            return replay(seed, worker.case.value)
    print("no difference")
    return 0


def _start(seed: int, first: int, step: int, seconds: float) -> Worker:
    shared = tuple(_SPAWN.Value("q", 0) for _ in range(4))
    process = _SPAWN.Process(target=_work, args=(seed, first, step, seconds, shared), daemon=True)
    process.start()
    return Worker(process, *shared)


def replay(seed: int, number: int) -> int:
    """Run one case; shrink and show it when it differs. The exit code."""
    data, setup = csvgen.case(seed, number)
    what = chain.difference(data, setup)
    if what is None:
        print(f"case {number} of seed {seed}: no difference")
        return 0
    print(f"case {number} of seed {seed} DIFFERS (again: python -m bench.fuzz --seed {seed} --case {number})")
    data, setup = shrink(data, setup)
    print(f"file:     {data!r}\nsetup:    {setup}\nwhat:     {chain.difference(data, setup)}")
    print(f"expected: {setup.expected(data)}")
    print(f"got:      {_got(data, setup)}")
    return 1


def _got(data: bytes, setup: Setup) -> object:
    try:
        header = read_header([data], setup.dialect, setup.naming)
        return header, chain.run(data, Position(0, header.end_byte), header.columns, setup)
    except (BadHeader, Different) as error:
        return error


def shrink(data: bytes, setup: Setup) -> tuple[bytes, Setup]:
    """A smaller case that still differs, though perhaps in another way: as small as a few seconds allow."""
    deadline = time.monotonic() + SHRINKING_S
    progress = True
    while progress and time.monotonic() < deadline:
        progress = False
        for smaller in _simpler(data, setup):
            if time.monotonic() >= deadline:
                break
            if chain.difference(*smaller) is not None:
                data, setup = smaller
                progress = True
                break
    return data, setup


def _simpler(data: bytes, setup: Setup) -> Iterator[tuple[bytes, Setup]]:
    """Candidates, the boldest first."""
    plain = Setup(setup.dialect)
    for setting in ("codec", "max_batch_bytes", "chunk_bytes", "block_bytes", "lanes", "recipe"):
        if getattr(setup, setting) != getattr(plain, setting):
            yield data, replace(setup, **{setting: getattr(plain, setting)})
    for option in fields(Recipe):
        if getattr(setup.recipe, option.name) != getattr(PLAIN, option.name):
            lanes = 1 if option.name == "key" else setup.lanes
            less: dict[str, Any] = {option.name: getattr(PLAIN, option.name)}
            yield data, replace(setup, recipe=replace(setup.recipe, **less), lanes=lanes)
    for sizes in ("chunk_bytes", "block_bytes"):
        if len(getattr(setup, sizes)) > 1:
            for size in getattr(setup, sizes):
                changed: dict[str, Any] = {sizes: (size,)}
                yield data, replace(setup, **changed)
    length = len(data) // 2
    while length:
        yield from ((data[:at] + data[at + length :], setup) for at in range(0, len(data), length))
        length //= 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes to run at once")
    parser.add_argument("--case", type=int, help="run this one case only")
    options = parser.parse_args()
    if options.case is not None:
        return replay(options.seed, options.case)
    return campaign(options.seed, options.seconds, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
