"""How a run of the loader ends: a table, and one small function for each way.

Each function starts what it needs, lets the round's faults strike on the way to a random share of the rows, and ends
what it started. What must come of it is said by the exit codes that it gives to `settle` and `kill`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.chaos.oracle import Violation
from csv2kafka.failpoints import STEPS, TAKEOVER_STEPS

if TYPE_CHECKING:
    from bench.chaos.load import Load

LAST = "through"
DONE, HELD, KILLED = 0, 75, -signal.SIGKILL
_LAST_STEPS = ("all_acked", "job_completed")
_STOP_S = 15.0  # 10 s are promised; the rest is for a busy machine


@dataclass(frozen=True, slots=True)
class Ending:
    play: Callable[[Load], None]
    weight: int
    target: str = "run"
    needs: str | None = None


def _kill(load: Load) -> None:
    """SIGKILL after a random share of the rows."""
    loader = load.start()
    load.go_to_goal(loader)
    load.kill(loader)


def _crash(load: Load) -> None:
    """SIGKILL at a named step, or further on if the run does not come to it."""
    step = load.rng.choice(STEPS)
    number = 1 if step in (*TAKEOVER_STEPS, *_LAST_STEPS) else load.rng.choice((1, 1, 2, 3, 5, 10))
    load.note(f"to die at {step}:{number}")
    loader = load.start(env={"CSV2KAFKA_CRASH_AT": f"{step}:{number}"})
    load.go_to_goal(loader)
    load.calm()
    if step in _LAST_STEPS:
        load.settle(loader, DONE, KILLED)
    else:
        load.go_on(loader)
        load.kill(loader, DONE)


def _sigterm(load: Load) -> None:
    _stop(load, signal.SIGTERM)


def _sigint(load: Load) -> None:
    _stop(load, signal.SIGINT)


def _stop(load: Load, number: signal.Signals) -> None:
    """What a scheduler and Ctrl-C do: the run ends by itself, soon."""
    loader = load.start()
    load.go_to_goal(loader)
    loader.send(number)
    if number == signal.SIGINT and load.rng.random() < 0.3:
        loader.send(number)
    load.settle(loader, DONE, 128 + number, -number, within_s=_STOP_S)


def _zombie(load: Load) -> None:
    """An instance stands still, another is started, the first wakes up: one of the two may write, and one only."""
    first = load.start()
    load.go_to_goal(first)
    stands = first.stop()
    load.calm()
    if not stands:
        load.settle(first, DONE)
        return
    second = load.start("second")
    if load.plan.store == "sqlite":  # the kernel keeps the lease for the first as long as it exists
        load.settle(second, HELD)
        first.send(signal.SIGCONT)
        load.go_on(first)
        load.kill(first, DONE)
        return
    epoch = load.watcher.read()["lease_epoch"]
    load.go_on(second)
    if load.rng.random() < 0.5:
        load.kill(second, DONE, HELD)
    took_over = load.watcher.read()["lease_epoch"] > epoch and second.receipt().get("status") != "already complete"
    first.send(signal.SIGCONT)
    load.settle(first, HELD, *(() if took_over else (DONE,)))
    # A save that was under way when the first was stopped is a sign of life: then the second gives up.
    load.kill(second, DONE, *(() if took_over else (HELD,)))


def _twins(load: Load) -> None:
    """Two starts at once: one does the work, the other is told so."""
    pair = load.start("one"), load.start("two")
    load.go_to_goal(*pair)
    codes = [load.kill(loader, DONE, HELD) for loader in pair]
    if codes == [HELD, HELD] and HELD not in load.excused:
        raise Violation("of two instances started at once each left the job to the other")


def _late_request(load: Load) -> None:
    """What a dead instance had under way comes to the broker after its successor took over."""
    first = load.start()
    load.go_to_goal(first)
    load.calm()
    network = load.world.kafka
    network.hold("up")
    load.rest(load.rng.uniform(0.05, 0.3), first)
    load.kill(first, DONE)
    network.strand()
    second = load.start("second")
    load.go_on(second)
    heard = len(network.unheard)
    network.release()
    load.rest(0.2, second)
    load.tally["late-answer"] += len(network.unheard) - heard
    load.kill(second, DONE)


def _through(load: Load) -> None:
    """No end but the file's: the run outlives whatever befalls it."""
    loader = load.start()
    load.go_to_goal(loader)
    load.calm()
    load.settle(loader, DONE)


ENDINGS: dict[str, Ending] = {
    "kill": Ending(_kill, 24),
    "crash": Ending(_crash, 10),
    "sigterm": Ending(_sigterm, 4),
    "sigint": Ending(_sigint, 3),
    "zombie": Ending(_zombie, 2),
    "twins": Ending(_twins, 3),
    "late-request": Ending(_late_request, 3),
    LAST: Ending(_through, 0),
}
