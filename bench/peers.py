"""The programs that compare.py runs side by side: what each is, how it is called, how many rows it gets.

Each is given the settings that make it fast where it has any: one partition, lz4, acks=all for all of them. Nothing is
averaged or judged here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import data, loader
from bench.measured import Measured, Usage
from bench.objects import Bucket
from csv2kafka.devbroker import KAFKA_VERSION
from csv2kafka.errors import Csv2KafkaError
from csv2kafka.javaenv import find_jars, find_java

MAX_S = 300.0
_STEADY_RATE = re.compile(r"steady state records sent, ([\d.]+) records/sec")


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `loop_s`, `loop_cpu_s`: without start-up, None where the program itself does not tell."""

    rows: int
    usage: Usage
    loop_s: float | None = None
    loop_cpu_s: float | None = None


class Lab:
    """What the programs work with. `folder` is for files that go when the lab is closed."""

    def __init__(self, bootstrap: str, folder: Path, cleanup: ExitStack) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self._cleanup = cleanup
        self._bucket: Bucket | None = None
        self._addresses: dict[int, str] = {}

    def on_s3(self, rows: int) -> tuple[str, dict[str, str]]:
        """The address of the file of so many rows, and the environment in which it can be read."""
        if self._bucket is None:
            self._bucket = self._cleanup.enter_context(Bucket())
        if rows not in self._addresses:
            self._addresses[rows] = self._bucket.upload(data.cached(rows))
        return self._addresses[rows], self._bucket.environment


@dataclass(frozen=True, slots=True)
class Peer:
    """`run(lab, topic, rows)` measures once. `obstacle` makes it ready and says why it cannot be run here, if so.

    `times_itself`: its start-up need not be measured apart, by a run of few rows.
    """

    name: str
    what: str
    rows_max: int
    run: Callable[[Lab, str, int], Result]
    obstacle: Callable[[], str | None] = lambda: None
    times_itself: bool = False


def _ours(lab: Lab, topic: str, rows: int) -> Result:
    return _load(lab, topic, rows, str(data.cached(rows)), {})


def _ours_s3(lab: Lab, topic: str, rows: int) -> Result:
    uri, environment = lab.on_s3(rows)
    return _load(lab, topic, rows, uri, environment)


def _load(lab: Lab, topic: str, rows: int, source: str, environment: dict[str, str]) -> Result:
    running = loader.start(source, topic, lab.bootstrap, lab.folder / f"{topic}.db", environment)
    load = loader.finish(running, MAX_S)
    return Result(rows, load.usage, loop_s=load.steady_s)


def _sender(module: str, *more: str) -> Callable[[Lab, str, int], Result]:
    def run(lab: Lab, topic: str, rows: int) -> Result:
        arguments = [lab.bootstrap, topic, str(data.cached(rows)), str(rows), *more]
        usage = Measured([sys.executable, "-m", f"bench.senders.{module}", *arguments]).wait_for_success(MAX_S)
        took = json.loads(usage.stdout)
        return Result(rows, usage, took["loop_s"], took["loop_cpu_s"])

    return run


def _kcat(lab: Lab, topic: str, rows: int) -> Result:
    settings = ["-z", "lz4", "-X", "acks=all", "-X", "linger.ms=50", "-X", "queue.buffering.max.messages=1000000"]
    lines = str(data.cached(rows, "json"))
    command = ["kcat", "-P", "-b", lab.bootstrap, "-t", topic, "-p", "0", *settings, "-l", lines]
    return Result(rows, Measured(command).wait_for_success(MAX_S))


def _install_kcat() -> str | None:
    if shutil.which("kcat") is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("installing kcat (apt-get) ...", file=sys.stderr)
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "kcat"]
        subprocess.run(command, capture_output=True, timeout=300, check=False)
    return None if shutil.which("kcat") else "kcat is not installed (Debian and Ubuntu: apt-get install kcat)"


def _perf_test(lab: Lab, topic: str, rows: int) -> Result:
    # It keeps the whole payload file in memory and sends lines of it at random; a tenth of the rows warms it up.
    lines = str(data.cached(min(rows, data.BLOCK_ROWS), "json"))
    java = [str(find_java()), "-server", "-Xmx512M", "-XX:+UseG1GC", "-Djava.awt.headless=true"]
    tool = ["-cp", os.pathsep.join(map(str, _perf_test_jars())), "org.apache.kafka.tools.ProducerPerformance"]
    target = ["--bootstrap-server", lab.bootstrap, "--topic", topic]
    amount = ["--num-records", str(rows), "--warmup-records", str(rows // 10), "--throughput", "-1"]
    properties = ["acks=all", "compression.type=lz4", "batch.size=900000", "linger.ms=50"]
    command = [*java, *tool, *target, *amount, "--payload-file", lines, "--command-property", *properties]
    usage = Measured(command).wait_for_success(MAX_S)
    (rate,) = _STEADY_RATE.findall(usage.stdout)
    return Result(rows, usage, loop_s=rows / float(rate))


def _perf_test_jars() -> list[Path]:
    return find_jars(
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
    )


def _fetch_perf_test() -> str | None:
    try:
        _perf_test_jars()
    except Csv2KafkaError as error:
        return str(error)
    return None


PEERS = (
    Peer("prebuilt", "nothing: batches of 1 MB built beforehand", 10_000_000, _sender("prebuilt"), times_itself=True),
    Peer("ours", "CSV file -> JSON -> Kafka, exactly once", 10_000_000, _ours),
    Peer("ours-s3", "CSV on S3 -> JSON -> Kafka, exactly once", 10_000_000, _ours_s3),
    Peer("kcat", "ready-made JSON lines -> Kafka (kcat -l)", 10_000_000, _kcat, _install_kcat),
    Peer("perf-test", "ready-made JSON lines (kafka-producer-perf-test)", 10_000_000, _perf_test, _fetch_perf_test),
    Peer("confluent", "csv, json, confluent-kafka", 2_000_000, _sender("confluent"), times_itself=True),
    Peer("kafka-python", "csv, json, kafka-python", 300_000, _sender("kafka_python", "100000"), times_itself=True),
    Peer("kafka-python-get", "same, one get per row", 8_000, _sender("kafka_python", "0"), times_itself=True),
)
