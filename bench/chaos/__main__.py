"""The campaign: `./dev chaos --seconds N --seed S`. Loads, one after the other, each through faults of its own.

Ends with one line that counts what happened, or at the first violation with everything that it takes to see it again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from bench.chaos.endings import ENDINGS, LAST
from bench.chaos.faults import FAULTS
from bench.chaos.load import Load
from bench.chaos.oracle import Violation
from bench.chaos.plan import draw
from bench.chaos.plants import PLANTS
from bench.chaos.world import World, open_world


@dataclass(frozen=True, slots=True)
class _Campaign:
    seed: int
    loads: Iterable[int]
    seconds: float
    plant: Callable[[Load], None] | None
    verbose: bool


_LOADS_OF_A_WORLD = 20  # the AWS stand-in forgets nothing, and the broker keeps what it was sent


class _Totals:
    """What the campaign has done so far."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.loads = self.rows = self.kills = 0
        self.tally: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    def is_over(self, campaign: _Campaign) -> bool:
        return self.loads > 0 and time.monotonic() > self.began_s + campaign.seconds

    def summary(self) -> str:
        faults, requests = map(_listed, (self.tally, self.requests))
        return (
            f"{self.loads} loads, {self.rows:,} rows, {self.kills} kills counted, duplicates 0, gaps 0, "
            f"{time.monotonic() - self.began_s:.0f} s; faults: {faults}; AWS requests: {requests}"
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(counts.items())) or "none"


def _one_load(world: World, folder: Path, number: int, campaign: _Campaign, totals: _Totals) -> bool:
    """True when the load went well; otherwise says what did not, and keeps everything."""
    seed, plan = campaign.seed, draw(campaign.seed, number, FAULTS, ENDINGS, LAST)
    began_s = time.monotonic()
    load = Load(plan, world, folder / f"load-{number}", totals.tally)
    try:
        load.run(totals.began_s + campaign.seconds, campaign.plant)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be seen again
        what = str(error) if isinstance(error, Violation) else traceback.format_exc()
        load.keep(what)
        print(f"FAILED: seed {seed}, load {number} ({plan}): {what}")
        print("\n".join(load.story))
        print(f"again: ./dev chaos --seed {seed} --loads {number}:{number + 1}\nkept in {load.folder}", flush=True)
        return False
    finally:
        load.close()
    load.clean_up()
    totals.loads += 1
    totals.rows += plan.rows
    totals.kills += load.kills
    rounds = " ".join(map(str, load.played))
    seconds = time.monotonic() - began_s
    print(f"load {number}: {plan}: exact after {load.kills} kills, {seconds:.0f} s: {rounds}", flush=True)
    if campaign.verbose:
        print("\n".join(load.story), flush=True)
    return True


def run(campaign: _Campaign) -> int:
    """The exit code: 0 when all went well, 1 at the first load that did not."""
    print(f"seed {campaign.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="csv2kafka-chaos-"))
    went_well = True
    try:
        totals = _Totals()
        loads = iter(campaign.loads)
        while went_well and (some := list(islice(loads, _LOADS_OF_A_WORLD))) and not totals.is_over(campaign):
            with open_world(folder) as world:
                for number in some:
                    if totals.is_over(campaign):
                        break
                    went_well = _one_load(world, folder, number, campaign, totals)
                    if not went_well:
                        return 1
                totals.requests += world.s3.played + world.dynamodb.played
        print(totals.summary())
    finally:
        if went_well:
            shutil.rmtree(folder)
    return 0


def _range(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end or int(first) + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, help="begin no more loads or rounds after that (default 120)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="default: a new one")
    parser.add_argument("--loads", type=_range, metavar="FROM:TO", help="only these loads of the seed, whole")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell each load's story")
    parser.add_argument("--plant", choices=PLANTS, help="put something wrong in, which must be found")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # such that nothing is left behind
    seconds = options.seconds or (120.0 if options.loads is None else float("inf"))
    loads = count() if options.loads is None else options.loads
    return run(_Campaign(options.seed, loads, seconds, PLANTS.get(options.plant), options.verbose))


if __name__ == "__main__":
    sys.exit(main())
