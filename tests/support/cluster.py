"""A real Kafka cluster on this machine, to be broken one broker at a time: three brokers, and a controller apart.

The controller stands apart so that any broker, or all of them, may be down and the cluster still knows who leads.
Everything has three replicas and needs two of them; a leader stays where it is until it fails or is moved.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from kafka import TopicPartition as PartitionToMove
from kafka.admin import KafkaAdminClient

from csv2kafka.devbroker import KAFKA_VERSION, Broker, Member, new_cluster_id
from csv2kafka.javaenv import find_java

IDS = (1, 2, 3)
TRANSACTIONS = "__transaction_state"  # of one partition, whose leader coordinates every transactional id
PATIENCE_S = 60.0

_CONTROLLER_ID = 100
_PROPERTIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "offsets.topic.replication.factor": "3",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "unclean.leader.election.enable": "false",
    "auto.leader.rebalance.enable": "false",
    "auto.create.topics.enable": "false",
}


class View(NamedTuple):
    """A partition as the cluster describes it: -1 leads where nobody does."""

    leader: int
    replicas: frozenset[int]
    in_sync: frozenset[int]


class Cluster:
    """Three running brokers, named by `IDS`. `bootstrap` has the addresses of all."""

    def __init__(self, version: str = KAFKA_VERSION) -> None:
        java, cluster_id = find_java(), new_cluster_id()

        def node(node_id: int, roles: str, voters: str | None, heap_mb: int) -> Broker:
            return Broker(
                member=Member(cluster_id, node_id, roles, voters),
                heap_mb=heap_mb,
                properties=_PROPERTIES,
                version=version,
                java=java,
                java_options=["-XX:TieredStopAtLevel=1"],  # starts in half the time; nobody measures here
                start=False,
            )

        self.controller = node(_CONTROLLER_ID, "controller", None, 256)
        self.brokers = {node_id: node(node_id, "broker", self.controller.voters, 384) for node_id in IDS}
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())
        self._paused: set[int] = set()
        try:
            _at_once(Broker.start, [self.controller, *self.brokers.values()])
            self._make_transactions_topic()
        except BaseException:
            self.close()
            raise

    def _make_transactions_topic(self) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": "first", "log_level": 0})
        producer.init_transactions(PATIENCE_S)
        self.wait_until_in_sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        _at_once(Broker.close, [*self.brokers.values(), self.controller])

    def kill(self, *node_ids: int) -> None:
        """SIGKILL, all at once; returns when the processes are gone."""
        _at_once(Broker.kill, self._of(node_ids))

    def stop(self, *node_ids: int) -> None:
        """A regular stop, in which a broker hands its leaderships over."""
        _at_once(Broker.stop, self._of(node_ids))

    def start(self, *node_ids: int) -> None:
        """Start what was killed or stopped, all at once; returns when they serve, which is before they are in sync."""
        _at_once(Broker.start, self._of(node_ids))

    def pause(self, *node_ids: int) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        for node_id in node_ids:
            self.brokers[node_id].pause()
            self._paused.add(node_id)

    def resume(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.brokers[node_id].resume()
            self._paused.discard(node_id)

    def heal(self) -> None:
        """Everything runs and is in sync again."""
        self.resume(*self._paused)
        self.start(*(node_id for node_id, broker in self.brokers.items() if not broker.is_running))
        self.wait_until_in_sync()

    def _of(self, node_ids: Iterable[int]) -> list[Broker]:
        return [self.brokers[node_id] for node_id in node_ids]

    def create_topic(self, replicas: Sequence[int] = IDS, config: Mapping[str, str] | None = None) -> str:
        """A new topic of one partition on these brokers, led by the first; returns its name once all are in sync."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        topic = NewTopic(
            name,
            num_partitions=1,
            replica_assignment=[list(replicas)],
            config={"min.insync.replicas": "2", **(config or {})},
        )
        admin = self._admin()  # kept: a request whose client is gone is abandoned
        admin.create_topics([topic])[name].result(timeout=PATIENCE_S)
        self.wait_for(lambda: self.leader_of(name) == replicas[0] and self.in_sync(name) == set(replicas), name)
        return name

    def view(self, topic: str | None = None) -> dict[str, View]:
        """Partition 0 of one topic or of all; empty when no broker answers."""
        try:
            found = self._admin().list_topics(topic, timeout=5) if topic else self._admin().list_topics(timeout=5)
        except KafkaException:
            return {}
        return {
            name: View(part.leader, frozenset(part.replicas), frozenset(part.isrs))
            for name, described in found.topics.items()
            for part in described.partitions.values()
            if part.id == 0
        }

    def leader_of(self, topic: str) -> int:
        """The node that leads partition 0, -1 where nobody does."""
        view = self.view(topic).get(topic)
        return view.leader if view else -1

    def coordinator(self) -> int:
        """The node that coordinates all transactional ids."""
        return self.leader_of(TRANSACTIONS)

    def in_sync(self, topic: str) -> set[int]:
        view = self.view(topic).get(topic)
        return set(view.in_sync) if view else set()

    def log_bytes(self, node_id: int, topic: str) -> int:
        """The size of partition 0's log on this broker's disk: what it was given, in sync or not."""
        return sum(
            file.stat().st_size for file in (self.brokers[node_id].data_dir / "log" / f"{topic}-0").glob("*.log")
        )

    def wait_for_leader(self, topic: str, *, other_than: int) -> int:
        """Wait until another node leads; returns which."""
        self.wait_for(lambda: self.leader_of(topic) not in (-1, other_than), f"another leader of {topic}")
        return self.leader_of(topic)

    def wait_until_in_sync(self) -> None:
        """Every partition has a leader, and all its replicas are in sync."""

        def whole() -> bool:
            views = self.view().values()
            return bool(views) and all(view.leader >= 0 and view.in_sync == view.replicas for view in views)

        self.wait_for(whole, "all replicas in sync")

    def move(self, topic: str, replicas: Sequence[int]) -> None:
        """Reassign partition 0 to these brokers; returns when they are its only replicas and the first one leads."""
        admin = KafkaAdminClient(bootstrap_servers=self._answering())
        try:
            errors = admin.alter_partition_reassignments({PartitionToMove(topic, 0): list(replicas)})
            assert set(errors.values()) == {None}, errors
            self.wait_for(lambda: self.view(topic)[topic][1:] == (set(replicas), set(replicas)), f"{topic} to move")
            if self.leader_of(topic) != replicas[0]:
                admin.elect_leaders(0, {topic: [0]})
            self.wait_for(lambda: self.leader_of(topic) == replicas[0], f"{replicas[0]} to lead {topic}")
        finally:
            admin.close()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"waited in vain for {what}: {self.view()}"
            time.sleep(0.05)

    def _answering(self) -> list[str]:
        return [
            broker.bootstrap
            for node_id, broker in self.brokers.items()
            if broker.is_running and node_id not in self._paused
        ]

    def _admin(self) -> AdminClient:
        """A client of its own for each question: one that lives on may ask a broker that stands still."""
        return AdminClient({"bootstrap.servers": ",".join(self._answering()), "log_level": 0})


def _at_once(act: Callable[[Broker], None], brokers: Sequence[Broker]) -> None:
    if brokers:
        with ThreadPoolExecutor(len(brokers)) as threads:
            list(threads.map(act, brokers))
