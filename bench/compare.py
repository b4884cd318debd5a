"""csv2kafka and its peers side by side: one broker, one run, in turn, several rounds.

    ./dev bench [--rows 10000000] [--rounds 3] [--only ours,kcat,prebuilt] [--json FILE]

Every program gets a new topic and at most so many rows as take it about 20 s. A first round of few rows warms
everything up and is thrown away. Figures mean something on a machine that does nothing else; the table says so where
it was not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import report
from bench.measured import ProgramFailed
from bench.peers import PEERS, Lab, Peer, Result
from bench.topics import RowsMissing, check_rows, fresh_topic, start_broker

# So few that all a program does is start, connect and stop.
_STARTUP_ROWS = 1_000


def main() -> None:
    options = _parse()
    wanted = options.only or [peer.name for peer in PEERS]
    busy = report.busy()
    measured = {peer.name: report.Runs(peer) for peer in PEERS if peer.name in wanted}
    for name in list(measured):
        if obstacle := measured[name].peer.obstacle():
            _say(f"without {name}: {obstacle}")
            del measured[name]
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="csv2kafka-bench-"))
        broker = cleanup.enter_context(start_broker())
        lab = Lab(broker.bootstrap, Path(folder), cleanup)
        failed = False
        for number in range(options.rounds + 1):
            for runs in list(measured.values()):
                try:
                    _measure(lab, runs, options.rows, number, options.rounds)
                except (ProgramFailed, RowsMissing, subprocess.TimeoutExpired) as error:
                    _say(f"without {runs.peer.name}: {error}")
                    del measured[runs.peer.name]
                    failed = True
    summaries = [report.summarize(runs) for runs in measured.values()]
    targets = report.targets(summaries)
    report.show(summaries, targets, busy)
    if options.json:
        facts = report.as_dict(summaries, targets, options.rows, options.rounds, busy)
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    sys.exit(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--rows", type=int, default=10_000_000, help="for the fast programs; slow ones get fewer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAMES", help=",".join(names))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no such program: {', '.join(sorted(unknown))} (there are {', '.join(names)})")
    if options.rows < 10 * _STARTUP_ROWS or options.rounds < 1:
        parser.error(f"at least {10 * _STARTUP_ROWS} rows and 1 round")
    return options


def _measure(lab: Lab, runs: report.Runs, rows: int, number: int, rounds: int) -> None:
    """One program in one round; round 0 is the warm-up."""
    peer = runs.peer
    rows = min(rows, peer.rows_max)
    if number == 0:
        _say(f"warming up {peer.name}")
        _run(lab, peer, max(rows // 10, _STARTUP_ROWS))
        return
    if not peer.times_itself:
        runs.startups.append(_run(lab, peer, _STARTUP_ROWS))
    runs.results.append(_run(lab, peer, rows))
    _say(f"round {number} of {rounds}: {peer.name:17} {report.rate(runs, runs.results[-1]):>12,.0f} rows/s")


def _run(lab: Lab, peer: Peer, rows: int) -> Result:
    with fresh_topic(lab.bootstrap) as topic:
        result = peer.run(lab, topic, rows)
        check_rows(lab.bootstrap, topic, rows)
    os.sync()  # what this one left to be written shall not slow the next one down
    return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
