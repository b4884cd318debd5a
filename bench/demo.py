"""The promise in front of one's eyes: a load is killed half way and goes on, and in the end the topic equals the file.

    ./dev demo [--rows 5000000]

A real broker, the real command in processes of its own, SIGKILL, and a comparison of every value by programs that
share no code with the loader (readback.py). Exit code 1 on any difference. How it looks is stage.py's business.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import pty
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench import data, loader
from bench.readback import Comparison
from bench.stage import Stage, Step, open_stage
from csv2kafka import human
from csv2kafka.devbroker import KAFKA_VERSION, Broker, die_with_parent
from csv2kafka.errors import Csv2KafkaError

_TOPIC = "demo"
_ISOLATIONS = ("read_uncommitted", "read_committed")
_IN_TOPIC = "records in the topic"
_KILL_AT = 0.5
_MAX_S = 300.0


class DemoFailed(Exception):
    """Something did not go as it must; the message says what."""


class Loading:
    """The loader as a process; what it writes to its terminal (or to a pipe) is shown on the stage as it comes."""

    def __init__(self, command: Sequence[str], stage: Stage, step: Step) -> None:
        columns = stage.terminal_columns
        read_fd, write_fd = os.pipe() if columns is None else pty.openpty()
        try:
            self.process = subprocess.Popen(
                die_with_parent(command),
                env=os.environ | ({} if columns is None else {"COLUMNS": str(columns)}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=write_fd,
                text=True,
            )
        finally:
            os.close(write_fd)
        self._listener = threading.Thread(target=self._listen, args=(read_fd, stage, step), daemon=True)
        self._listener.start()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def receipt(self) -> dict[str, Any]:
        """Wait for a successful end. Raises DemoFailed."""
        stdout, _ = self.process.communicate(timeout=_MAX_S)
        self._listener.join()
        if self.process.returncode:
            raise DemoFailed(f"the loader ended with exit code {self.process.returncode}: {stdout}")
        receipt: dict[str, Any] = json.loads(stdout)
        return receipt

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._listener.join()

    @staticmethod
    def _listen(read_fd: int, stage: Stage, step: Step) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while piece := os.read(read_fd, 1 << 16):
                stage.hear(step, decoder.decode(piece))
        except OSError:
            pass  # how a terminal says that nobody is at its other end any more
        finally:
            os.close(read_fd)


class TopicEnd:
    """The topic's end offset, asked anew at each call; 0 while there is no topic."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "demo", "log_level": 0})

    def __call__(self) -> int:
        try:
            return int(self._consumer.get_watermark_offsets(TopicPartition(_TOPIC, 0), timeout=5)[1])
        except KafkaException:
            return 0

    def close(self) -> None:
        self._consumer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    options = parser.parse_args()
    try:
        with open_stage() as stage, tempfile.TemporaryDirectory(prefix="csv2kafka-demo-") as folder:
            good = _play(stage, Path(folder), options.rows)
    except Csv2KafkaError as error:
        _give_up(f"{error.message}\n{error.hint}", error.exit_code)
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        _give_up(str(error), 1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if good else 1)


def _give_up(text: str, exit_code: int) -> NoReturn:
    print(f"./dev demo: {text}", file=sys.stderr)
    sys.exit(exit_code)


def _play(stage: Stage, folder: Path, rows: int) -> bool:
    began_s = time.monotonic()
    source = folder / f"{rows}-rows.csv"
    with stage.step(f"Start Apache Kafka {KAFKA_VERSION}") as step:
        broker = Broker()
        step.result = f"one node at {broker.bootstrap}"
    with broker, closing(TopicEnd(broker.bootstrap)) as topic_end:
        with stage.step(f"Write a CSV of {human.plural(rows, 'row')}") as step:
            step.result = human.size(data.write(source, rows))
        command = loader.command(source, _TOPIC, broker.bootstrap, folder / "checkpoint.db")
        killed_at = _load_and_kill(stage, command, topic_end, rows)
        resumed = _resume(stage, command, topic_end, rows)
        comparisons = _read_back(stage, source, broker.bootstrap, rows)
        again = _run_again(stage, command)
    good = all(comparison.is_equal for comparison in comparisons.values()) and again["status"] == "already complete"
    title = "every row exactly once, in file order" if good else "THE TOPIC IS NOT WHAT IT MUST BE"
    facts = _facts(rows, killed_at, resumed, comparisons) | {
        "the whole demo took": human.duration(time.monotonic() - began_s)
    }
    stage.finish(title, facts, good=good)
    return good


def _load_and_kill(stage: Stage, command: Sequence[str], topic_end: TopicEnd, rows: int) -> int:
    """Kill the loader when the topic holds about half; return what the topic held then."""
    with stage.step("Load it; SIGKILL half way", _shown(command)) as step:
        gauge = step.gauge(_IN_TOPIC, rows)
        loading = Loading(command, stage, step)
        while (end := topic_end()) < rows * _KILL_AT:
            if not loading.is_running:
                raise DemoFailed(f"the loader ended before it could be killed: {loading.receipt()}")
            stage.measure(step, gauge, end)
            time.sleep(0.005)
        loading.kill()
        end = topic_end()
        if end >= rows:
            raise DemoFailed("all rows were there before the loader could be killed: give it more --rows")
        step.result = f"killed at offset {end:,}, exit code {loading.process.returncode}"
        return end


def _resume(stage: Stage, command: Sequence[str], topic_end: TopicEnd, rows: int) -> dict[str, Any]:
    with stage.step("The same command again: resume", _shown(command)) as step:
        gauge = step.gauge(_IN_TOPIC, rows)
        loading = Loading(command, stage, step)
        while loading.is_running:
            stage.measure(step, gauge, topic_end())
            time.sleep(0.05)
        receipt = loading.receipt()
        if receipt["status"] != "complete" or not receipt["resumed_at_row"]:
            raise DemoFailed(f"the second run was no resume to the end: {receipt}")
        step.result = f"from row {receipt['resumed_at_row'] + 1:,} to the end"
        return receipt


def _shown(command: Sequence[str]) -> str:
    return shlex.join(["csv2kafka", *command[3:]])  # it is the same as python -m csv2kafka


def _run_again(stage: Stage, command: Sequence[str]) -> dict[str, Any]:
    with stage.step("The same command once more", _shown(command)) as step:
        receipt = Loading(command, stage, step).receipt()
        step.result = f"{receipt['status']}, {receipt['rows_this_run']} rows sent"
        return receipt


def _read_back(stage: Stage, source: Path, bootstrap: str, rows: int) -> dict[str, Comparison]:
    """Both isolation levels at once, each in a process of its own."""
    with stage.step("Read back, compare every value") as step:
        readers = [_Reader(isolation, source, bootstrap, stage, step, rows) for isolation in _ISOLATIONS]
        comparisons = {reader.isolation: reader.comparison() for reader in readers}
        equal = all(comparison.is_equal for comparison in comparisons.values())
        step.result = "equal to Python's csv + json" if equal else "DIFFERENT"
        return comparisons


class _Reader:
    """A readback process and the thread that listens to it."""

    def __init__(self, isolation: str, source: Path, bootstrap: str, stage: Stage, step: Step, rows: int) -> None:
        self.isolation = isolation
        self._stage = stage
        self._step = step
        self._gauge = step.gauge(isolation, rows)
        self._last: dict[str, Any] = {}
        command = [sys.executable, "-m", "bench.readback", str(source), bootstrap, _TOPIC, isolation]
        self._process = subprocess.Popen(
            die_with_parent(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def comparison(self) -> Comparison:
        """Wait for the outcome. Raises DemoFailed."""
        self._process.wait(_MAX_S)
        self._listener.join()
        if self._process.returncode:
            raise DemoFailed(f"reading {self.isolation} failed")
        return Comparison(**self._last)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._last = json.loads(line)
                self._stage.measure(self._step, self._gauge, self._last["read"])


def _facts(rows: int, killed_at: int, resumed: dict[str, Any], comparisons: dict[str, Comparison]) -> dict[str, str]:
    steady_s = resumed["duration_s"] - resumed["startup_s"]
    facts = {
        "rows in the file": f"{rows:,}",
        "killed (SIGKILL) at": f"offset {killed_at:,}",
        "resumed at": f"row {resumed['resumed_at_row'] + 1:,}, the first one after {resumed['startup_s']:.1f} s",
        "speed": f"{resumed['rows_this_run'] / steady_s:,.0f} rows/s (of the resumed part, start-up apart)",
    }
    for isolation, found in comparisons.items():
        facts[isolation] = (
            f"{found.read:,} records, {found.missing:,} missing, {found.surplus:,} duplicates, "
            f"{'in order' if found.in_order else 'OUT OF ORDER'}"
        )
    return facts


if __name__ == "__main__":
    main()
