"""What a real load into a real broker shows at its metrics port, and that the port lives as long as the process."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from csv2kafka import jobs
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.devbroker import Broker
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import Footing, Sender, TakeOverAgain
from csv2kafka.metrics.monitor import Monitor
from csv2kafka.model import Batch
from tests.support.bad_rows import write_mixed_csv
from tests.support.faulty_s3 import FaultyS3, refused, reset, short_range, truncated
from tests.support.loads import Load, write_csv
from tests.support.oracle import read_topic
from tests.support.processes import Children
from tests.unit.test_monitor import ask, status

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

ROWS = 30_000
SMALL_BATCHES = {"max.message.bytes": "20000"}  # some fifty batches for the file


class Counted:
    """Makes senders that count what they deliver; the batch with number `doubtful` fails the first time."""

    def __init__(self, doubtful: int | None = None) -> None:
        self.delivered = self.given = 0
        self._doubtful = doubtful

    def __call__(self, client: Client, footing: Footing) -> Sender:
        counted = self

        class CountingSender(Sender):
            def send(self, batch: Batch) -> asyncio.Future[int]:
                counted.given += 1
                if counted.given == counted._doubtful:
                    failed = asyncio.get_running_loop().create_future()
                    failed.set_exception(TakeOverAgain("as the test wants it"))
                    return failed
                answer = super().send(batch)
                answer.add_done_callback(counted._count)
                return answer

        return CountingSender(client, footing)

    def _count(self, answer: asyncio.Future[int]) -> None:
        self.delivered += not answer.cancelled() and answer.exception() is None


def figures(monitor: Monitor) -> dict[str, float]:
    found = re.findall(r"^csv2kafka_(\S+) (\S+)$", ask(monitor, "/metrics").text, re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor("127.0.0.1", 0, job_id="job", source="data.csv", topic="orders")


def test_the_last_figures_are_those_of_the_whole_load(
    broker: Broker, make_topic: Callable[..., str], tmp_path: Path, monitor: Monitor
) -> None:
    path, senders = tmp_path / "data.csv", Counted()
    good, bad = write_mixed_csv(path, ROWS)
    load = Load(broker.bootstrap, path, make_topic(config=SMALL_BATCHES), tmp_path / "ck.db")
    store = SqliteStore(load.checkpoints)
    load.run(jobs.Parts(store=store, sinks=(monitor,), sender_factory=senders), bad_rows="quarantine")

    found = figures(monitor)
    expected = {
        "rows_sent_total": len(good),
        "bad_rows_total": len(bad),
        "bytes_read_total": path.stat().st_size - len(b"id,name\n"),
        "job_rows": ROWS,
        "job_bad_rows": len(bad),
        "source_rows": ROWS,
        "source_bytes": path.stat().st_size,
        "progress_ratio": 1,
        "eta_seconds": 0,
        "checkpoint_lag_rows": 0,
        "takeovers_total": 1,
        "retries_total": 0,
        "foreign_records_total": 0,
        "ack_latency_seconds_count": senders.delivered,
    }
    assert {name: found[name] for name in expected} == expected
    assert senders.delivered > 20
    assert found["ack_latency_seconds_sum"] > 0
    assert found["checkpoints_total"] >= 1
    assert sum(value for name, value in found.items() if name.startswith("errors_total")) == 0
    reasons = status(monitor)["sample"]["bad_row_reasons"]
    assert sum(rows for _, rows in reasons) == len(bad)


def test_a_failure_that_was_survived_is_counted(
    broker: Broker, make_topic: Callable[..., str], tmp_path: Path, monitor: Monitor
) -> None:
    path, senders = tmp_path / "data.csv", Counted(doubtful=10)
    write_csv(path, ROWS)
    load = Load(broker.bootstrap, path, make_topic(config=SMALL_BATCHES), tmp_path / "ck.db")
    load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(monitor,), sender_factory=senders))

    found = figures(monitor)
    assert found['errors_total{kind="kafka"}'] == 1
    assert (found["takeovers_total"], found["rows_sent_total"]) == (2, ROWS)
    assert found["ack_latency_seconds_count"] == senders.delivered
    assert ask(monitor, "/healthz").status == 200


def test_reads_that_were_made_again_are_counted(
    broker: Broker,
    make_topic: Callable[..., str],
    tmp_path: Path,
    monitor: Monitor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "data.csv"
    values = write_csv(path, ROWS)
    with FaultyS3() as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
        faults = (refused(503, "SlowDown"), truncated(1), reset(1), short_range)
        s3.serve(path.read_bytes(), *faults, head_faults=[503])
        load = Load(broker.bootstrap, path, make_topic(config=SMALL_BATCHES), tmp_path / "ck.db")
        parts = jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(monitor,))
        load.run(parts, source="s3://bucket/data.csv")

    assert figures(monitor)['errors_total{kind="source"}'] == len(faults) + 1
    assert read_topic(load.bootstrap, load.topic) == values


def test_a_resumed_run_counts_its_own_rows(
    broker: Broker, make_topic: Callable[..., str], tmp_path: Path, monitor: Monitor
) -> None:
    path = tmp_path / "data.csv"
    write_csv(path, ROWS)
    load = Load(broker.bootstrap, path, make_topic(config=SMALL_BATCHES), tmp_path / "ck.db")
    load.die(batches=10, saves=1)
    receipt = load.run(jobs.Parts(store=SqliteStore(load.checkpoints), sinks=(monitor,)))

    found = figures(monitor)
    assert receipt.resumed_at_row > 0
    assert (found["rows_sent_total"], found["job_rows"]) == (receipt.rows_this_run, ROWS)
    assert status(monitor)["history"][0] == [0.0, receipt.resumed_at_row]


def test_the_port_is_there_while_a_broker_is_waited_for_and_gone_with_the_process(
    children: Children, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    write_csv(path, 10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = children.start_cli(
            "run", path, "orders", "-b", f"127.0.0.1:{silent.getsockname()[1]}", "--metrics-port", "0", "--json",
            env={
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "ann",
                "KAFKA_SASL_PASSWORD": "hunter2",
            },
        )  # fmt: skip
        assert process.stderr is not None
        while not (found := re.search(r"watch this run at (\S+) ", line := process.stderr.readline())):
            assert line, "it ended"
        url = found[1]
        with urlopen(f"{url}healthz") as health:
            assert (health.status, health.read()) == (200, b"starting\n")
        with urlopen(f"{url}status.json") as answer, urlopen(f"{url}metrics") as metrics:
            told, figures = answer.read(), metrics.read()
        assert json.loads(told)["source"] == str(path)
        assert b"hunter2" not in told + figures
        process.kill()
        process.communicate(timeout=60)
    with pytest.raises(URLError):
        urlopen(f"{url}healthz")
