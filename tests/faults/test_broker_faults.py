"""A broker that dies, restarts, stands still or is not there: the load ends exactly, or stops in time with a reason.

All tests share one broker, which they break; `far_load` reaches it through a proxy.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csv2kafka.devbroker import Broker
from tests.support.admin import create_topic, topics
from tests.support.cli_load import SMALL_BATCHES, CliLoad
from tests.support.far_broker import far_broker
from tests.support.processes import Children
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

TRY_AGAIN, CONFIGURATION, STOPPED = 75, 78, 143
LONG_PAUSE_S = 60.0  # longer than a request is waited for
STOP_WITHIN_S = 10.0
BUSY_MACHINE_S = 10.0  # what a test grants on top of a deadline


@pytest.fixture(scope="module")
def far(kafka_version: str) -> Iterator[tuple[Broker, TcpProxy, str]]:
    with far_broker({"auto.create.topics.enable": "true"}, heap_mb=512, version=kafka_version) as running:
        yield running


@pytest.fixture
def broker(far: tuple[Broker, TcpProxy, str]) -> Iterator[Broker]:
    """It runs when a test begins, whatever the one before did to it."""
    broker = far[0]
    if not broker.is_running:
        broker.restart()
    yield broker
    if broker.is_running:
        broker.resume()


@pytest.fixture
def proxy(far: tuple[Broker, TcpProxy, str]) -> Iterator[TcpProxy]:
    proxy = far[1]
    yield proxy
    proxy.cut()
    proxy.restore()
    proxy.release()


@pytest.fixture
def load(broker: Broker, children: Children, tmp_path: Path) -> CliLoad:
    return CliLoad(children, broker.bootstrap, create_topic(broker.bootstrap, config=SMALL_BATCHES), tmp_path)


@pytest.fixture
def far_load(far: tuple[Broker, TcpProxy, str], load: CliLoad, proxy: TcpProxy) -> CliLoad:
    load.bootstrap = far[2]
    return load


def assert_ends_exactly(load: CliLoad, takeovers: int) -> None:
    ended = load.wait()
    assert ended.returncode == 0, ended
    assert ended.receipt["takeovers"] == takeovers
    load.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize(("step", "number"), [("partition_added", 1), ("batch_sent", 10)])
def test_the_broker_dies_and_comes_back(load: CliLoad, broker: Broker, step: str, number: int) -> None:
    """Between the two requests for a marker, and with a batch in doubt."""
    with load.paused_at(step, number):
        broker.kill()
    broker.restart()
    assert_ends_exactly(load, takeovers=1)


@pytest.mark.slow
def test_the_broker_restarts_while_a_retry_is_pending(far_load: CliLoad, broker: Broker, proxy: TcpProxy) -> None:
    """The batch is in the log, its answer was lost: the restarted broker must still know it by its sequence."""
    with far_load.paused_at("batch_sending", 10):
        before = far_load.end()
        proxy.hold("down")
    proxy.wait_held("down")
    assert far_load.end() > before, "the batch was not appended, so its retry would prove nothing"
    proxy.cut(refuse=True)
    broker.restart()
    proxy.release()
    proxy.restore()
    assert_ends_exactly(far_load, takeovers=1)


@pytest.mark.slow
def test_the_broker_stands_still_for_a_minute(load: CliLoad, broker: Broker) -> None:
    with load.paused_at("batch_sent", 10):
        broker.pause()
    time.sleep(LONG_PAUSE_S)
    broker.resume()
    assert_ends_exactly(load, takeovers=1)


def test_a_stop_saves_what_was_acknowledged(load: CliLoad) -> None:
    with load.paused_at("batch_acked", 3) as process:
        process.send_signal(signal.SIGTERM)
    ended = load.wait()
    assert ended.returncode == STOPPED, ended
    assert ended.receipt["status"] == "stopped"
    sent = load.assert_prefix(at_least=1)
    assert ended.receipt["rows"] == sent
    ended = load.run()
    assert (ended.returncode, ended.receipt["resumed_at_row"]) == (0, sent)
    load.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["epoch_saved", "batch_sent"])
def test_a_stop_while_the_broker_stands_still(load: CliLoad, broker: Broker, step: str) -> None:
    """The loader ends in time without an answer; what was under way is sorted out by the next run."""
    with load.paused_at(step) as process:
        broker.pause()
        process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    ended = load.wait()
    assert time.monotonic() - began_s < STOP_WITHIN_S + BUSY_MACHINE_S
    assert ended.returncode == STOPPED, ended
    broker.resume()
    load.assert_prefix()
    load.assert_goes_on()


@pytest.mark.slow
def test_no_broker_at_the_start(load: CliLoad, broker: Broker) -> None:
    """An error at once, that says where nobody answers; the same command goes on once somebody does."""
    broker.kill()
    began_s = time.monotonic()
    ended = load.run()
    assert time.monotonic() - began_s < BUSY_MACHINE_S
    assert ended.returncode == TRY_AGAIN, ended
    assert f"no broker answers at {broker.bootstrap}" in str(ended.receipt["error"])
    assert "Check the address" in str(ended.receipt["hint"])
    broker.restart()
    load.assert_goes_on()


def test_a_broker_that_stands_still_at_the_start(load: CliLoad, broker: Broker) -> None:
    broker.pause()
    ended = load.run("-X", "request.timeout.ms=1000")
    broker.resume()
    assert ended.returncode == TRY_AGAIN, ended
    assert f"no broker answers at {broker.bootstrap}: no answer in time" in str(ended.receipt["error"])
    load.assert_goes_on()


@pytest.mark.slow
def test_no_coordinator_at_the_start(children: Children, tmp_path: Path, kafka_version: str) -> None:
    """The broker leads the partition, but there can be no coordinator of transactions: its topic wants 3 brokers."""
    data_dir = tmp_path / "broker"
    impossible = {"transaction.state.log.replication.factor": "3"}
    with Broker(data_dir=data_dir, properties=impossible, heap_mb=512, version=kafka_version) as broker:
        load = CliLoad(children, broker.bootstrap, create_topic(broker.bootstrap, config=SMALL_BATCHES), tmp_path)
        ended = load.run("-X", "request.timeout.ms=2000", "-X", "delivery.timeout.ms=2000")
        assert ended.returncode == TRY_AGAIN, ended
        assert "starting a producer epoch for csv2kafka:job" in str(ended.receipt["error"])
        assert "CoordinatorNotAvailable (error 15)" in str(ended.receipt["error"])
        assert "see why in the brokers' logs" in str(ended.receipt["hint"])
        before = refusals(broker)
        load.start()
        until(lambda: refusals(broker) > before, "the loader asks for the coordinator")
    with Broker(port=broker.port, data_dir=data_dir, heap_mb=512, version=kafka_version):
        assert_ends_exactly(load, takeovers=1)


def refusals(broker: Broker) -> int:
    """How often it was asked for a coordinator that it could not give."""
    return broker.log_path.read_text().count("auto-creation request for Set(__transaction_state)")


def test_asking_for_a_topic_does_not_create_it(load: CliLoad, broker: Broker) -> None:
    """Though this broker creates any topic that it is asked for without saying no."""
    load.topic = f"{load.topic}-missing"
    ended = load.run("--no-create-topic")
    assert ended.returncode == CONFIGURATION, ended
    assert f"topic {load.topic} does not exist" in str(ended.receipt["error"])
    assert "--no-create-topic" in str(ended.receipt["hint"])
    assert load.topic not in topics(broker.bootstrap)
