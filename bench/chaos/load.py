"""Takes one job through its plan: starts, faults and endings, round after round, until it is complete and judged."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.endings import DONE, ENDINGS
from bench.chaos.faults import FAULTS
from bench.chaos.loader import Loader
from bench.chaos.log import Log
from bench.chaos.oracle import Violation, check_topic
from bench.chaos.plan import Plan, Round, write_file
from bench.chaos.watcher import Watcher, dynamodb_reader, sqlite_reader
from bench.chaos.world import AWS_LOG, BUCKET, TABLE, World
from tests.support.admin import create_topic

BOUND_S = 120.0  # within which anything must come to its end once nothing is in its way
_DEFAULT_MESSAGE_BYTES = 1 << 20
_MOST_ON_THE_WAY_S = 8.0  # of a load's time, for its batches' round trips


@dataclass(frozen=True, slots=True)
class _Strike:
    name: str
    share: float  # of the way to the round's goal
    lasts_s: float
    stays: bool  # until the run has ended
    context: AbstractContextManager[None]


class Load:
    """One job of a campaign. Endings use it to start, watch and end runs; `tally` counts what happened."""

    def __init__(self, plan: Plan, world: World, folder: Path, tally: Counter[str]) -> None:
        self.plan = plan
        self.world = world
        self.tally = tally
        self.rng = plan.rng()
        self.excused: set[int] = set()  # exit codes, besides those that an ending names, of the round's faults
        self.story: list[str] = []
        self.kills = 0
        self.played: list[Round] = []
        self.folder = folder
        folder.mkdir()
        self._began_s = time.monotonic()
        self._is_complete = False
        self._round = ""
        self._killed: list[Loader] = []
        self._strikes: list[_Strike] = []
        self._staying = ExitStack()
        self._things = ExitStack()
        self._set_up()

    def _set_up(self) -> None:
        plan, world = self.plan, self.world
        self.path = self.folder / "data.csv"
        write_file(plan, self.path)
        limit = plan.max_message_bytes
        config = {"max.message.bytes": str(limit)} if limit else {}
        self.topic = create_topic(world.broker.bootstrap, config=config)
        world.produce(self.topic, [b"of somebody else"] * plan.older_records)
        self.job_id = f"load-{plan.number}"
        batches = 1 + 2 * self.path.stat().st_size / (limit or _DEFAULT_MESSAGE_BYTES)
        world.set_round_trip(min(plan.round_trip_s, _MOST_ON_THE_WAY_S / batches))
        self._source = str(self.path)
        if plan.source == "s3":
            world.bucket.upload_file(str(self.path), BUCKET, self.job_id)
            self._source = f"s3://{BUCKET}/{self.job_id}"
        self.database = self.folder / "checkpoints.db"
        if plan.store == "sqlite":
            self._checkpoint, reader = f"sqlite:///{self.database}", sqlite_reader(self.database, self.job_id)
        else:
            self._checkpoint, reader = f"dynamodb://{TABLE}", dynamodb_reader(world.table, self.job_id)
        self._log, watchers_log = (Log(world.broker.bootstrap, self.topic) for _ in range(2))
        self.watcher = Watcher(reader, watchers_log)
        for thing in (watchers_log, self._log, self.watcher):  # closed from the last to the first
            self._things.callback(thing.close)

    def run(self, deadline_s: float, plant: Callable[[Load], None] | None = None) -> None:
        """Through the rounds, or those begun before a deadline (monotonic), then to the end. Raises Violation.

        plant: puts something wrong in once there is a checkpoint.
        """
        for index, round_ in enumerate(self.plan.rounds):
            if self._is_complete or (self.played and time.monotonic() > deadline_s):
                break
            self._play(index, round_)
            if plant and self.watcher.read().get("kafka_next_offset") is not None:
                self.note("planted")
                plant(self)
                plant = None
        if not self._is_complete:
            self._round = "last"
            self.excused = set()
            self.world.heal()
            self.settle(self.start(), DONE)
        self.judge()

    def _play(self, index: int, round_: Round) -> None:
        self._round = f"{index:02}-{round_.ending}"
        self.note(str(round_))
        self.played.append(round_)
        self.rng = self.plan.rng(index, round_.ending)
        self.excused = {code for name in round_.faults for code in FAULTS[name].allows}
        self._strikes, self._killed = [], []
        with ExitStack() as lasting:
            for name in round_.faults:
                fault, rng = FAULTS[name], self.plan.rng(index, name)
                context = fault.strike(self.world, rng)
                if fault.lasts_s is None:
                    lasting.enter_context(context)
                    self.tally[name] += 1
                else:
                    stays = rng.random() < 0.3
                    self._strikes.append(_Strike(name, rng.random(), rng.uniform(*fault.lasts_s), stays, context))
            ENDINGS[round_.ending].play(self)
            self.calm()
        self.tally[round_.ending] += 1
        end = self._log.end()
        for loader in self._killed:  # a take-over's marker alone is no progress, nor is another instance's
            self.kills += end >= loader.end_before + 2 and loader.said(f"job {self.job_id}: ")

    # What endings are made of

    def start(self, name: str = "", env: Mapping[str, str] | None = None) -> Loader:
        plan, end_before = self.plan, self._log.end()
        arguments = ["run", self._source, self.topic, "-b", self.world.far_bootstrap, "--checkpoint", self._checkpoint]
        arguments += ["--job-id", self.job_id, "--compression", plan.codec, "--delimiter", plan.delimiter, "--json"]
        if plan.checkpoint_interval_rows:
            arguments += ["--checkpoint-interval", str(plan.checkpoint_interval_rows)]
        name = "-".join(filter(None, (self._round, name)))
        loader = Loader(name, arguments, {**self.world.environment(), **(env or {})}, self.folder, end_before)
        self._things.callback(loader.close)
        self.note(f"started {loader.name}, the log ends at {end_before}")
        return loader

    def go_to_goal(self, *loaders: Loader) -> None:
        """Let them send a random share of the rows, the round's faults striking on the way, or come to their end."""
        first = loaders[0].end_before + 2
        goal = first + self.rng.randrange(self._share_rows())
        for strike in sorted(self._strikes, key=lambda strike: strike.share):
            if not self._until(first + int(strike.share * (goal - first)), loaders):
                return
            self.note(f"{strike.name} for {strike.lasts_s:.2f} s")
            self.tally[strike.name] += 1
            with ExitStack() as striking:
                striking.enter_context(strike.context)
                self.rest(strike.lasts_s, *loaders)
                if strike.stays:
                    self.note(f"{strike.name} stays")
                    self._staying.push(striking.pop_all())
            if strike.stays:
                return
        self._until(goal, loaders)

    def go_on(self, loader: Loader) -> None:
        """Let it send another share of the rows, or come to its end."""
        self._until(self._log.end() + 2 + self.rng.randrange(self._share_rows()), (loader,))

    def rest(self, seconds: float, *loaders: Loader) -> None:
        """Let them do what they do for so long, or until they have ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._all_ended(loaders):
            pass

    def calm(self) -> None:
        """End the faults that would have stayed."""
        self._staying.close()

    def kill(self, loader: Loader, *exits: int) -> int:
        """SIGKILL; one that has ended before must have done so with 0 or one of these."""
        loader.send(signal.SIGKILL)
        return self.settle(loader, DONE, -signal.SIGKILL, *exits)

    def settle(self, loader: Loader, *exits: int, within_s: float = BOUND_S) -> int:
        """Wait for the run's end, and see that it is one that may be: an exit code of these."""
        began_s = time.monotonic()
        while not self._all_ended((loader,)):
            if time.monotonic() - began_s > within_s:
                raise Violation(f"{loader.name} did not end within {within_s:.0f} s:\n{loader.last_words()}")
        code = loader.exit_code
        assert code is not None
        self.note(f"{loader.name} ended with {code}")
        complaint = loader.complaint()
        if complaint or code not in {*exits, *self.excused}:
            expected = ", ".join(map(str, sorted({*exits, *self.excused})))
            raise Violation(
                f"{loader.name}: exit code {code} ({expected} expected), {complaint or 'no traceback'}:\n"
                f"{loader.last_words()}"
            )
        if code == -signal.SIGKILL and loader not in self._killed:
            self._killed.append(loader)
        if code in (DONE, -signal.SIGTERM, -signal.SIGINT):  # signals kill only where all is done and said
            self._complete(loader)
        return code

    def note(self, what: str) -> None:
        self.story.append(f"{time.monotonic() - self._began_s:7.2f} s  {what}")

    def _complete(self, loader: Loader) -> None:
        receipt = loader.receipt()
        status, rows = receipt.get("status"), receipt.get("rows")
        if status not in ("complete", "already complete") or rows != self.plan.rows:
            raise Violation(f"{loader.name} is not complete, as its exit code says: {status}, {rows} rows")
        self._is_complete = True

    def _share_rows(self) -> int:
        """Such that what is left for the rounds to come hangs on nobody's speed."""
        return self.plan.rows // (len(self.plan.rounds) + 2)

    def _until(self, goal: int, loaders: tuple[Loader, ...]) -> bool:
        """Wait until the log reaches the goal; False when all loaders ended before."""
        began_s = time.monotonic()
        while (self._log.end_now() or 0) < goal:
            if self._all_ended(loaders):
                return False
            if time.monotonic() - began_s > BOUND_S:
                words = loaders[0].last_words()
                raise Violation(f"the log did not reach offset {goal} within {BOUND_S:.0f} s:\n{words}")
        return not self._all_ended(loaders)

    def _all_ended(self, loaders: tuple[Loader, ...]) -> bool:
        self.watcher.check()
        return all(loader.has_ended() for loader in loaders)

    # The end

    def judge(self) -> None:
        """The job says that it is complete: so must say its checkpoint, and the topic. Raises Violation."""
        item = self.watcher.read()
        said = {name: item.get(name) for name in ("status", "last_line", "total_sent")}
        if said != {"status": "COMPLETED", "last_line": self.plan.rows, "total_sent": self.plan.rows}:
            raise Violation(f"complete with {self.plan.rows} rows, but the checkpoint says {said}")
        plan, bootstrap = self.plan, self.world.broker.bootstrap
        check_topic(self.path, plan.delimiter, bootstrap, self.topic, first_offset=plan.older_records)
        self.watcher.check()
        if not self.watcher.readings:
            raise Violation("the checkpoint was never seen while the job ran")

    def keep(self, problem: str) -> None:
        """Put what explains a failure beside the runs' output: the story, the checkpoint, the broker's log and data."""
        (self.folder / "story.txt").write_text("\n".join((str(self.plan), *self.story, problem, "")))
        shutil.copy(self.world.broker.log_path, self.folder)
        shutil.copy(self.folder.parent / AWS_LOG, self.folder)
        try:
            item = {name: str(value) for name, value in self.watcher.read().items()}
        except Exception as error:  # noqa: BLE001 - what failed may be the store, and the rest must be kept all the same
            item = {"error": str(error)}
        (self.folder / "checkpoint.json").write_text(json.dumps(item, indent=1))
        for segments in (self.world.broker.data_dir / "log").glob(f"{self.topic}-*"):
            shutil.copytree(segments, self.folder / segments.name)

    def close(self) -> None:
        """End whatever still runs."""
        self._things.close()

    def clean_up(self) -> None:
        """Leave nothing of a load that went well, so that a long campaign fills no disk."""
        self.world.forget(self.topic, self.job_id)
        shutil.rmtree(self.folder)
