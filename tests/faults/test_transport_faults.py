"""A network that loses answers, cuts requests short, delivers them late and repeats them: the topic stays exact.

The load reaches its broker through a proxy; the oracle does not.
"""

from __future__ import annotations

import asyncio
import random
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec

from csv2kafka import jobs
from csv2kafka.devbroker import Broker
from csv2kafka.kafka.client import Client
from csv2kafka.kafka.fence import transactional_id
from csv2kafka.kafka.sender import Sender
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import Batch
from tests.support.admin import create_topic
from tests.support.cli_load import SMALL_BATCHES, CliLoad, Ended
from tests.support.far_broker import far_broker
from tests.support.kills import EndOffset
from tests.support.loads import Died, ForgetfulStore, Load
from tests.support.processes import Children
from tests.support.raw_log import batches, markers
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

RESETS = 12
INVALID_EPOCH = 47
OUT_OF_ORDER = 45


@pytest.fixture(scope="module")
def far(kafka_version: str) -> Iterator[tuple[Broker, TcpProxy, str]]:
    with far_broker(heap_mb=512, version=kafka_version) as running:
        yield running


@pytest.fixture
def broker(far: tuple[Broker, TcpProxy, str]) -> Broker:
    return far[0]


@pytest.fixture
def proxy(far: tuple[Broker, TcpProxy, str]) -> Iterator[TcpProxy]:
    """Passes everything on at first, whatever the test before has left behind."""
    proxy = far[1]
    proxy.cut()
    proxy.release()
    proxy.delay(up_s=0, down_s=0)
    proxy.unheard.clear()
    proxy.truncated = 0
    yield proxy
    proxy.cut()


@pytest.fixture
def load(far: tuple[Broker, TcpProxy, str], proxy: TcpProxy, children: Children, tmp_path: Path) -> CliLoad:
    bootstrap = far[0].bootstrap
    topic = create_topic(bootstrap, config=SMALL_BATCHES)
    return CliLoad(children, far[2], topic, tmp_path, oracle_bootstrap=bootstrap)


def assert_one_take_over(ended: Ended) -> None:
    """The retry itself was enough: the broker told it from a new batch by its sequence."""
    assert ended.returncode == 0, ended
    assert ended.receipt["takeovers"] == 1


@pytest.mark.parametrize("number", [1, 10])
def test_an_answer_lost_behind_the_append(load: CliLoad, proxy: TcpProxy, number: int) -> None:
    with load.paused_at("batch_sending", number):
        before = load.end()
        proxy.hold("down")
    proxy.wait_held("down")
    assert load.end() > before, "the batch was not appended, so its retry would prove nothing"
    proxy.drop_answer()
    assert_one_take_over(load.wait())
    load.assert_exact()


@pytest.mark.parametrize("up_bytes", [3, 5000])
def test_a_request_cut_short(load: CliLoad, proxy: TcpProxy, up_bytes: int) -> None:
    """In the middle of its length, and in the middle of the records."""
    with load.paused_at("batch_sending", 10):
        proxy.truncate(up_bytes=up_bytes)
    ended = load.wait()
    assert proxy.truncated == 1
    assert_one_take_over(ended)
    load.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_far_broker_and_resets(load: CliLoad, broker: Broker, proxy: TcpProxy, seed: int) -> None:
    """200 ms there and back; connections are reset at any moment of a round trip."""
    rng = random.Random(seed)
    proxy.delay(up_s=0.1, down_s=0.1)
    end_offset = EndOffset(broker.bootstrap, load.topic)
    try:
        process = load.start()
        for _ in range(RESETS):
            goal = end_offset() + rng.randrange(1, len(load.values) // (RESETS + 2))
            until(lambda goal=goal: end_offset() >= goal or process.poll() is not None, f"end offset {goal}")  # type: ignore[misc]
            time.sleep(rng.random() * 0.2)
            assert process.poll() is None, load.wait()
            proxy.cut()
    finally:
        end_offset.close()
    ended = load.wait()
    assert ended.returncode == 0, ended
    load.assert_exact()


@pytest.mark.parametrize(("step", "is_refused"), [("epoch_saved", False), ("takeover_saved", True)])
def test_a_dead_clients_request_comes_in_late(
    load: CliLoad, broker: Broker, proxy: TcpProxy, step: str, is_refused: bool
) -> None:
    """Before the successor's marker it is let in, and found there; behind it the broker refuses it."""
    leave_a_request_under_way(load, proxy)
    load.bootstrap = broker.bootstrap
    with load.paused_at(step):
        before = load.end()
        proxy.release()
        answer = until(lambda: proxy.unheard, "an answer to the dead client's request")[0]
        assert produce_error(answer) == (INVALID_EPOCH if is_refused else 0)
        assert (load.end() == before) == is_refused
    assert_one_take_over(load.wait())
    load.assert_exact()


def leave_a_request_under_way(load: CliLoad, proxy: TcpProxy) -> None:
    """Kill the loader while its tenth batch is on the way to the broker."""
    with load.paused_at("batch_sending", 10):
        proxy.hold("up")
    proxy.wait_held("up")
    assert load.process is not None
    load.process.kill()
    assert load.wait().returncode == -signal.SIGKILL


def produce_error(answer: bytes) -> int:
    """The error code in the answer (version 7) to a Produce request for one partition."""
    name_bytes = int(struct.unpack_from(">h", answer, 12)[0])
    return int(struct.unpack_from(">h", answer, 14 + name_bytes + 8)[0])


def test_a_request_comes_in_behind_its_own_retry(load: CliLoad, proxy: TcpProxy) -> None:
    with load.paused_at("batch_sending", 10):
        proxy.hold("up")
    proxy.wait_held("up")
    proxy.strand()
    assert_one_take_over(load.wait())
    before = load.end()
    proxy.release()
    answer = until(lambda: proxy.unheard, "an answer to the late request")[0]
    assert produce_error(answer) == OUT_OF_ORDER
    assert load.end() == before
    load.assert_exact()


def test_a_marker_asked_for_twice(load: CliLoad, broker: Broker, proxy: TcpProxy) -> None:
    """EndTxn was served and its answer lost; then the loader dies, and the next one reads what came of it."""
    load.env["CSV2KAFKA_CRASH_AT"] = "batch_acked:20"
    with load.paused_at("partition_added"):
        proxy.hold("down")
    proxy.drop_answer()
    assert load.wait().returncode == -signal.SIGKILL
    load.env.clear()
    assert_one_take_over(load.run())
    load.assert_exact()
    assert [marker.producer_epoch for marker in markers(broker, load.topic)] == [0, 1]


def repeat_marker(broker: Broker, topic: str) -> None:
    """Put the newest marker into the log once more, as a coordinator does that went down before it noted the first."""
    epoch = markers(broker, topic)[-1].producer_epoch
    place = TopicPartition(topic, 0)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        (producer,) = admin.describe_producers([place])[place].active_producers
        admin.abort_transaction(AbortTransactionSpec(place, producer.producer_id, epoch, producer.coordinator_epoch))
    finally:
        admin.close()
    assert [marker.producer_epoch for marker in markers(broker, topic)[-2:]] == [epoch, epoch]


def test_a_marker_repeated_before_the_first_row(load: CliLoad, broker: Broker) -> None:
    load.env["CSV2KAFKA_CRASH_AT"] = "batch_acked:20"
    with load.paused_at("takeover_saved"):
        repeat_marker(broker, load.topic)
    assert load.wait().returncode == -signal.SIGKILL
    load.env.clear()
    assert_one_take_over(load.run())
    load.assert_exact()


def test_a_marker_repeated_between_rows(load: CliLoad, broker: Broker, tmp_path: Path) -> None:
    """In one process, as its checkpoint must stay the one of the take-over: the whole log is read by the next run."""

    class Sending(Sender):
        given = 0

        def can_send(self, batch: Batch) -> bool:
            self.given += 1
            if self.given == 10:
                repeat_marker(broker, load.topic)
            if self.given == 20:
                raise Died
            return super().can_send(batch)

    job = Load(broker.bootstrap, load.path, load.topic, tmp_path / "checkpoints.db")
    with pytest.raises(Died):
        job.run(jobs.Parts(store=ForgetfulStore(job.checkpoints, 2), sender_factory=Sending))
    sequences = [None if batch.is_control else batch.base_sequence for batch in batches(broker, load.topic)]
    assert sequences[:2] == [None, 0]
    assert None in sequences[2:-1], "the marker does not lie between rows"
    assert_one_take_over(load.run())
    load.assert_exact()


def test_a_late_request_opens_a_transaction_again(load: CliLoad, broker: Broker, proxy: TcpProxy) -> None:
    """AddPartitionsToTxn comes in once more behind EndTxn: a transaction of the job's that nobody will end."""
    load.env["CSV2KAFKA_CRASH_AT"] = "batch_acked:20"
    with load.paused_at("epoch_saved"):
        proxy.hold("up")
    proxy.wait_held("up")
    proxy.strand()
    assert load.wait().returncode == -signal.SIGKILL
    load.env.clear()
    assert state_of_transaction(broker, load.topic) == "CompleteAbort"
    proxy.release()
    until(lambda: proxy.unheard, "an answer to the late request")
    assert state_of_transaction(broker, load.topic) == "Ongoing"
    assert_one_take_over(load.run())
    load.assert_exact()


@pytest.mark.slow
def test_the_coordinator_ends_a_transaction_that_a_late_request_opened(load: CliLoad, broker: Broker) -> None:
    """After a minute, by a marker of an epoch above the running loader's, whose batches are refused from then on."""
    with load.paused_at("batch_acked", 10):
        open_transaction(broker, load.topic)
        until(
            lambda: state_of_transaction(broker, load.topic) == "CompleteAbort",
            "the transaction's time is over",
            patience_s=120,
            pause_s=1,
        )
        assert [marker.producer_epoch for marker in markers(broker, load.topic)] == [0, 1]
    ended = load.wait()
    assert ended.returncode == 0, ended
    assert ended.receipt["takeovers"] == 2
    load.assert_exact()


def open_transaction(broker: Broker, topic: str) -> None:
    """Send the request of the job's newest epoch that opens a transaction."""
    marker = markers(broker, topic)[-1]
    name = transactional_id("job", topic)
    request = AddPartitionsToTxnRequest(name, marker.producer_id, marker.producer_epoch, [(topic, [0])])

    async def send() -> None:
        async with Client(KafkaSettings(bootstrap=broker.bootstrap)) as client:
            answer = await client.ask_coordinator(name, request)
            assert answer.errors == [(topic, [(0, 0)])]

    asyncio.run(send())
    assert state_of_transaction(broker, topic) == "Ongoing"


def state_of_transaction(broker: Broker, topic: str) -> str:
    name = transactional_id("job", topic)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        return str(admin.describe_transactions([name])[name].state.value)
    finally:
        admin.close()
