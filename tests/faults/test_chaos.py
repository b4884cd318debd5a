"""The campaign of random faults: a short one goes well, one with something wrong in it fails and says how to see it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.chaos.endings import ENDINGS, LAST
from bench.chaos.faults import FAULTS
from bench.chaos.oracle import Violation
from bench.chaos.plan import Plan, draw
from bench.chaos.watcher import Watcher
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROOT = Path(__file__).resolve().parents[2]
PLAIN_SEED = 2422  # whose first load begins with a kill and nothing else, and is small
SEED = 1814  # whose first load has kills, signals and twins, a broker that dies, S3 and DynamoDB that misbehave


@pytest.fixture
def campaign(children: Children, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(seed: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The seed's first load, and what it leaves behind in `tmp_path`."""
        command = [sys.executable, "-m", "bench.chaos", "--seed", str(seed), "--loads", "0", *arguments]
        process = children.start(command, cwd=ROOT, env={"TMPDIR": str(tmp_path)})
        stdout, stderr = process.communicate(timeout=600)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run


def test_a_load_ends_exactly_after_many_faults(
    campaign: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    ended = campaign(SEED)
    assert ended.returncode == 0, ended
    summary = ended.stdout.splitlines()[-1]
    plan = drawn()
    found = re.match(
        r"1 loads, ([\d,]+) rows, (\d+) kills counted, duplicates 0, gaps 0, \d+ s; faults: (.*);", summary
    )
    assert found, summary
    assert int(found[1].replace(",", "")) == plan.rows
    told = {name.split(" ")[0] for name in found[3].split(", ")}
    assert told >= {round_.ending for round_ in plan.rounds}
    # Some runs may be over before they send anything: those that die in their take-over, or whose store stays away.
    sure = [round_ for round_ in plan.rounds if not any(FAULTS[name].allows for name in round_.faults)]
    assert told >= {name for round_ in sure if round_.ending != "crash" for name in round_.faults}
    assert int(found[2]) >= sum(round_.ending == "kill" for round_ in sure) > 0
    assert list(tmp_path.glob("csv2kafka-chaos-*")) == []


@pytest.mark.parametrize(
    ("seed", "plant", "complaint"),
    [
        (PLAIN_SEED, "foreign-record", "a record that is no row of the file at row"),
        pytest.param(PLAIN_SEED, "checkpoint-back", "the checkpoint went back: ckpt_seq was", marks=pytest.mark.slow),
        pytest.param(SEED, "checkpoint-back", "the checkpoint went back: ckpt_seq was", marks=pytest.mark.slow),
        pytest.param(SEED, "checkpoint-ahead", "the checkpoint is ahead of the log", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_is_found_and_kept(
    campaign: Callable[..., subprocess.CompletedProcess[str]], seed: int, plant: str, complaint: str
) -> None:
    ended = campaign(seed, "--seconds", "0.1", "--plant", plant)  # one round, then the end
    assert ended.returncode == 1, ended
    assert f"FAILED: seed {seed}, load 0 (" in ended.stdout
    assert complaint in ended.stdout
    assert f"again: ./dev chaos --seed {seed} --loads 0:1\n" in ended.stdout
    kept = Path(ended.stdout.rpartition("kept in ")[2].strip())
    names = {path.name for path in kept.iterdir()}
    assert {"data.csv", "story.txt", "checkpoint.json", "broker.log"} <= names
    assert any(name.startswith("00-") and name.endswith(".stderr") for name in names)
    assert complaint in (kept / "story.txt").read_text()


def drawn(number: int = 0, seed: int = SEED) -> Plan:
    return draw(seed, number, FAULTS, ENDINGS, LAST)


def test_a_load_follows_from_seed_and_number() -> None:
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert drawn(3).rng("x").random() == drawn(3).rng("x").random() != drawn(4).rng("x").random()


def test_every_fault_and_every_ending_has_its_turn() -> None:
    rounds = [(plan, round_) for plan in map(drawn, range(200)) for round_ in plan.rounds]
    assert {round_.ending for _, round_ in rounds} == set(ENDINGS)
    assert {name for _, round_ in rounds for name in round_.faults} == set(FAULTS)
    for plan, round_ in rounds:
        targets = [FAULTS[name].target for name in round_.faults]
        assert len(targets) == len(set(targets))
        assert {FAULTS[name].needs for name in round_.faults} <= {None, plan.store, plan.source}


class _Log:
    """As bench.chaos.log.Log."""

    def __init__(self, end: int | None) -> None:
        self.end = end

    def end_now(self) -> int | None:
        return self.end


_SOUND = {"lease_epoch": 1, "ckpt_seq": 5, "last_line": 9, "kafka_next_offset": 20, "first_offset": 10}


def watched(items: Iterator[Mapping[str, Any]], end: int | None) -> None:
    """Let a watcher read these, and close it once there are no more. Raises what it found."""
    last: Mapping[str, Any] = {}
    is_over = False

    def read() -> Mapping[str, Any]:
        nonlocal last, is_over
        try:
            last = next(items)
        except StopIteration:
            is_over = True
        return last

    watcher = Watcher(read, _Log(end))  # type: ignore[arg-type]
    while not is_over and watcher.is_watching:
        pass
    watcher.close()
    watcher.check()


def test_a_sound_checkpoint_is_left_in_peace() -> None:
    watched(iter([{}, {"lease_epoch": 1, "ckpt_seq": 1}, _SOUND, _SOUND, {**_SOUND, "ckpt_seq": 6}]), end=20)


@pytest.mark.parametrize("field", ["lease_epoch", "ckpt_seq", "last_line", "kafka_next_offset"])
@pytest.mark.parametrize("end", [20, None], ids=["log known", "broker away"])
def test_a_checkpoint_that_goes_back_is_found(field: str, end: int | None) -> None:
    with pytest.raises(Violation, match=f"went back: {field}"):
        watched(iter([_SOUND, {**_SOUND, field: _SOUND[field] - 1}]), end)


@pytest.mark.parametrize("change", [{"kafka_next_offset": 21}, {"last_line": 11}])
def test_a_checkpoint_ahead_of_the_log_is_found(change: dict[str, int]) -> None:
    with pytest.raises(Violation, match="ahead of the log"):
        watched(iter([_SOUND, {**_SOUND, **change}]), end=20)
