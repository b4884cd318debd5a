"""Clocks that are wrong, producers that the broker forgets, sequences that run out: the topic stays exact."""

from __future__ import annotations

import importlib.util
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from csv2kafka import jobs
from csv2kafka.checkpoints.sqlite import SqliteStore
from csv2kafka.clock import boottime_s
from csv2kafka.devbroker import Broker
from csv2kafka.kafka import sender as sender_module
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.sender import RESEND_LIMIT_S, Footing, Sender
from csv2kafka.model import Batch
from tests.support.admin import create_topic
from tests.support.cli_load import ISOLATIONS, ROWS, SMALL_BATCHES, CliLoad, Ended
from tests.support.far_broker import far_broker
from tests.support.loads import Load, write_csv
from tests.support.oracle import iter_messages, read_topic
from tests.support.processes import Children
from tests.support.raw_log import batches
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

DAY_S = 24 * 3600
AROUND_NOW_S = 600


@pytest.fixture(scope="module")
def far(kafka_version: str) -> Iterator[tuple[Broker, TcpProxy, str]]:
    with far_broker(heap_mb=512, version=kafka_version) as running:
        yield running


@pytest.fixture
def load(far: tuple[Broker, TcpProxy, str], children: Children, tmp_path: Path) -> CliLoad:
    broker, _, address = far
    topic = create_topic(broker.bootstrap, config=SMALL_BATCHES)
    return CliLoad(children, address, topic, tmp_path, oracle_bootstrap=broker.bootstrap)


def clock_off_by(days: int) -> dict[str, str]:
    """The environment of a child whose clock is wrong by so much; monotonic clocks are nobody's to set."""
    package = importlib.util.find_spec("libfaketime")
    assert package is not None
    assert package.origin is not None
    library = Path(package.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    assert library.exists()
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{days:+}d",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def days_off(ended: Ended) -> int:
    """By how much the clock of the child was wrong, as its log tells."""
    stamp = re.search(r"^\S+Z", ended.stderr)
    assert stamp is not None, ended
    return round((datetime.fromisoformat(stamp[0]) - datetime.now(UTC)).total_seconds() / DAY_S)


@pytest.mark.parametrize(("first", "then"), [(1, -1), (-1, 1)])
def test_a_clock_set_between_two_runs(load: CliLoad, far: tuple[Broker, TcpProxy, str], first: int, then: int) -> None:
    died = load.run(env={**clock_off_by(first), "CSV2KAFKA_CRASH_AT": "batch_acked:20"})
    assert died.returncode == -signal.SIGKILL
    assert days_off(died) == first
    load.assert_prefix(at_least=1)
    ended = load.run(env=clock_off_by(then))
    assert ended.returncode == 0, ended
    assert days_off(ended) == then
    load.assert_exact()
    stamps = [message.timestamp()[1] / 1000 for page in iter_messages(far[0].bootstrap, load.topic) for message in page]
    assert max(abs(stamp - time.time()) for stamp in stamps) < AROUND_NOW_S, "records carry the broker's time"


@pytest.mark.parametrize("restart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_retry_by_a_clock_that_is_behind(load: CliLoad, far: tuple[Broker, TcpProxy, str], restart: bool) -> None:
    """A broker forgets producers by their records' times, and at its start for certain: a record two days old would
    let it take the retry for a new batch.
    """
    broker, proxy, _ = far
    load.env = clock_off_by(-2)
    with load.paused_at("batch_sending", 10):
        before = load.end()
        proxy.hold("down")
    proxy.wait_held("down")
    assert load.end() > before, "the batch was not appended, so its retry would prove nothing"
    proxy.cut(refuse=True)
    if restart:
        broker.restart()
    proxy.release()
    proxy.restore()
    ended = load.wait()
    assert ended.returncode == 0, ended
    assert (days_off(ended), ended.receipt["takeovers"]) == (-2, 1)
    load.assert_exact()


@pytest.mark.slow
def test_nothing_is_sent_again_once_the_broker_may_have_forgotten_it(tmp_path: Path, kafka_version: str) -> None:
    """The clock that jumps is the sender's own, which goes on while a machine sleeps."""
    values = write_csv(tmp_path / "data.csv", ROWS)
    forgetful = {"producer.id.expiration.ms": "1000", "producer.id.expiration.check.interval.ms": "200"}
    with far_broker(forgetful, heap_mb=512, version=kafka_version) as (broker, proxy, address):
        slept_s = 0.0

        class Sending(Sender):
            """Loses the answer to its tenth batch."""

            def __init__(self, client: Client, footing: Footing) -> None:
                super().__init__(client, footing, clock_s=lambda: boottime_s() + slept_s)
                self.given = 0

            def can_send(self, batch: Batch) -> bool:
                self.given += 1
                if self.given == 10:
                    proxy.hold("down")
                return super().can_send(batch)

        senders = iter((Sending, Sender))

        def next_sender(client: Client, footing: Footing) -> Sender:
            return next(senders)(client, footing)

        load = Load(
            address, tmp_path / "data.csv", create_topic(broker.bootstrap, config=SMALL_BATCHES), tmp_path / "c"
        )
        parts = jobs.Parts(store=SqliteStore(load.checkpoints), sender_factory=next_sender)
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(load.run, parts)
            proxy.wait_held("down")
            until(lambda: not remembered_producers(broker, load.topic), "the broker forgets the producer")
            slept_s = RESEND_LIMIT_S + 1
            proxy.drop_answer()
            receipt = running.result(timeout=120)
        assert receipt.takeovers == 2
        assert_exact(broker, load.topic, values)


def assert_exact(broker: Broker, topic: str, values: list[bytes]) -> None:
    for isolation in ISOLATIONS:
        assert read_topic(broker.bootstrap, topic, isolation=isolation) == values


def remembered_producers(broker: Broker, topic: str) -> list[int]:
    place = TopicPartition(topic, 0)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        return [producer.producer_id for producer in admin.describe_producers([place])[place].active_producers]
    finally:
        admin.close()


def test_sequences_that_run_out(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 2^31 - 1 in truth; here after 8,000 rows, in a run that dies and in the one that resumes it."""
    limit = 8_000
    monkeypatch.setattr(sender_module, "_MAX_SEQUENCE", limit)
    values = write_csv(tmp_path / "data.csv", ROWS)
    topic = create_topic(broker.bootstrap, config=SMALL_BATCHES)
    load = Load(broker.bootstrap, tmp_path / "data.csv", topic, tmp_path / "checkpoints.db")
    load.die(batches=4, saves=2)
    receipt = load.run()
    assert receipt.takeovers > (ROWS - receipt.resumed_at_row) // limit
    assert_exact(broker, topic, values)
    assert max(batch.last_sequence for batch in batches(broker, topic)) < limit
