"""Connections to the cluster: who leads, who coordinates, asking again when that changed. One partition's view.

Everything else in this package speaks through `Client`. Error codes become exceptions here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.coordination import FindCoordinatorRequest

from csv2kafka.clock import boottime_s
from csv2kafka.errors import ConfigError, Csv2KafkaError, Denied, JobConflict, KafkaUnavailable, machine_limit
from csv2kafka.kafka import protocol
from csv2kafka.kafka.login import Connection, connection_options
from csv2kafka.kafka.refusal import Door, find_out, refusal
from csv2kafka.kafka_settings import KafkaSettings

_LOG = logging.getLogger(__name__)
_CHATTER = logging.getLogger("aiokafka")  # what repeats while a broker is away; the command line thins it out

Answer = TypeVar("Answer")

UNKNOWN_TOPIC = 3
_TRANSACTION_COORDINATOR = 1
GONE_AFTER_S = 10.0
_RESET = "The rows sent so far went with it. To load the file from row 1 into {}: csv2kafka reset JOB, then run again."
# Codes after which the same request may be sent again, to whoever leads or coordinates then.
_RETRIABLE = frozenset({2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 51, 56, 72, 74, 75, 78, 89})
_TRANSPORT = (
    OSError,  # TimeoutError is one
    kafka_errors.CorrelationIdError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.StaleMetadata,
)
# What a code denies something on, and the option of kafka-acls.sh for it; the operation is the caller's to say.
_DENIED = {
    29: ("the topic", "--topic ..."),
    31: ("the cluster", "--cluster"),
    53: ("the transactional id (where nobody may grant it: --delivery lease-only)", "--transactional-id ..."),
}


class BrokerError(Exception):
    """A broker's answer with an error code that is not OK. Never leaves this package."""

    def __init__(self, code: int, what: str) -> None:
        self.code = code
        # Coordinators were those of consumer groups once; here they are those of transactions.
        self.name = kafka_errors.for_code(code).__name__.removesuffix("Error").removeprefix("Group")
        super().__init__(f"{what}: {self.name} (error {code})")

    @property
    def retriable(self) -> bool:
        return self.code in _RETRIABLE


def check(code: int, what: str, *, needs: str = "Write") -> None:
    """Raise for an error code: Denied where a permission is missing, BrokerError otherwise.

    needs: the operation that must be allowed, in Kafka's own word for it.
    """
    if code in _DENIED:
        place, option = _DENIED[code]
        raise Denied(
            f"{what}: the cluster denies {needs} on {place} (error {code})",
            hint=f"Grant it (kafka-acls.sh --add --allow-principal ... --operation {needs} {option}), "
            "then run the command again.",
        )
    if code:
        raise BrokerError(code, what)


@dataclass(frozen=True, slots=True)
class Partition:
    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic as the cluster describes it now. `leaders` maps partition to broker id, -1 where there is none."""

    cluster_id: str
    topic_id: str
    leaders: dict[int, int]
    replicas: int


class _Connections(AIOKafkaClient):
    """aiokafka's connections, without its habits of asking for all topics, of creating those that it names, and of
    keeping to itself why a connection failed.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._options = connection_options(settings)
        super().__init__(bootstrap_servers=settings.bootstrap, **self._options)

    async def bootstrap(self) -> None:
        """Learn of the brokers from the first address that answers; raises the last one's error where none does."""
        failure: Exception | None = None
        for host, port, _ in self.hosts:
            try:
                await self._introduce(host, port)
            except _TRANSPORT as error:
                if not is_retriable(error):
                    raise
                _CHATTER.info("no answer from %s:%s: %s", host, port, _reason(error))
                failure = error
            else:
                login = f", {self._settings.sasl_mechanism}" if self._settings.sasl_mechanism else ""
                brokers = ", ".join(f"{one.nodeId} at {one.host}:{one.port}" for one in self.cluster.brokers())
                _LOG.debug(
                    "connected to %s:%s (%s%s); brokers: %s",
                    host,
                    port,
                    self._settings.security_protocol,
                    login,
                    brokers,
                )
                self._sync_task = asyncio.create_task(self._md_synchronizer())
                return
        raise failure or kafka_errors.NodeNotReadyError("no address was given")

    async def _introduce(self, host: str, port: int) -> None:
        try:
            connection = await Connection.open(host, port, **self._options)
            try:
                self.know_brokers(await connection.send(protocol.metadata([])))
            finally:
                connection.close()
        except Exception as error:
            refused = await find_out(error, self._door(host, port))
            if refused is not None:
                raise refused from error
            raise
        if not self.cluster.brokers():
            raise kafka_errors.NodeNotReadyError("it is still starting")

    def _door(self, host: str, port: int) -> Door:
        return Door(host, port, self._settings, self._options["ssl_context"])

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        key = (node_id, group)
        if self._is_connected(key):
            return self._conns[key]
        async with self._get_conn_lock:
            if self._is_connected(key):  # by now
                return self._conns[key]
            broker = self.cluster.broker_metadata(node_id)
            if broker is None:
                raise kafka_errors.StaleMetadata(f"broker {node_id} is not known any more")
            try:
                self._conns[key] = await Connection.open(
                    broker.host, broker.port, on_close=self._on_connection_closed, **self._options
                )
            except Exception as error:
                refused = refusal(error, self._door(broker.host, broker.port))
                if refused is not None:
                    raise refused from error
                _CHATTER.warning("no answer from broker %s: %s", node_id, _reason(error))
                self.force_metadata_update()  # it may have moved
                raise
            return self._conns[key]

    def _is_connected(self, key: tuple[Any, Any]) -> bool:
        connection = self._conns.get(key)
        return connection is not None and bool(connection.connected())

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            try:
                connection = await self._get_conn(node)
                answer = await connection.send(protocol.metadata([]))
            except (OSError, kafka_errors.KafkaError, Csv2KafkaError):
                continue  # whoever sends to this broker next hears the reason
            self.know_brokers(answer)
            return True
        return False

    def know_brokers(self, answer: Any) -> None:
        """Keep the brokers of a Metadata answer, in the shape that aiokafka's cluster view reads."""
        brokers = [broker[:4] for broker in answer.brokers]
        self.cluster.update_metadata(
            SimpleNamespace(API_VERSION=5, brokers=brokers, controller_id=answer.controller_id, topics=[])
        )


class Client:
    """An open connection to the cluster. `deadline_s` bounds every question, its repeats included."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.deadline_s = settings.delivery_timeout_s
        self._connections = _Connections(settings)
        self._leaders: dict[tuple[str, int], int] = {}
        self._coordinators: dict[str, int] = {}
        self._missing_since_s: float | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connections.bootstrap()
        except Csv2KafkaError:
            await self.close()
            raise
        except (OSError, kafka_errors.KafkaError) as error:
            await self.close()
            if not is_retriable(error):
                raise _translated(error, f"connecting to {self.settings.bootstrap}") from None
            raise KafkaUnavailable(
                f"no broker answers at {self.settings.bootstrap}: {_reason(error)}",
                hint="Check the address (-b HOST:PORT), the network, and security.protocol; then run again.",
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, without waiting for a broker that does not answer."""
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await asyncio.wait_for(self._connections.close(), timeout=2)

    async def topic(self, name: str) -> TopicView | None:
        """Ask anew for a topic; None where the cluster has none of this name."""

        return await self.persist(lambda: self._look_up(name), f"describing topic {name}")

    async def confirm(self, target: Partition) -> None:
        """Ask the partition's leader whether the topic is still the one that `target` means; JobConflict if not.

        A topic made again by the same name takes records like the one before. Ids are used once: while this one is
        found, everything acknowledged until now lies in the same topic. Only the leader knows for certain.
        """

        async def ask() -> None:
            if (target.topic, target.partition) not in self._leaders:
                await self._check_topic(target)
            await self._check_topic(target)  # asks the leader, which is known now

        await self.persist(ask, f"describing topic {target.topic}")

    async def ask_leader(self, target: Partition, request: Any) -> Any:
        """Send to the partition's leader, once. Raises BrokerError or a transport error; `persist` repeats."""
        key = (target.topic, target.partition)
        if key not in self._leaders:
            await self._check_topic(target)
        return await self._send(self._leaders[key], request)

    async def ask_coordinator(self, transactional_id: str, request: Any) -> Any:
        """Send to the transaction coordinator, once."""
        await self.find_coordinator(transactional_id)
        return await self._send(self._coordinators[transactional_id], request)

    async def find_coordinator(self, transactional_id: str) -> None:
        """Unless it is known. Raises Denied where the transactional id may not even be seen."""
        if transactional_id not in self._coordinators:
            answer = await self._send(
                self._any_node(), FindCoordinatorRequest(transactional_id, _TRANSACTION_COORDINATOR)
            )
            check(answer.error_code, f"finding the coordinator of {transactional_id}")
            self._coordinators[transactional_id] = answer.coordinator_id
            await self._connections.force_metadata_update()

    async def ask_any(self, request: Any) -> Any:
        """Send to any broker, once. Admin requests are forwarded to the controller by it."""
        return await self._send(self._any_node(), request)

    async def persist(
        self, ask: Callable[[], Awaitable[Answer]], what: str, *, deadline_s: float | None = None
    ) -> Answer:
        """Repeat `ask` with back-off until it answers; leaders and coordinators are looked up again each time.

        Raises KafkaUnavailable at the deadline, and at once what cannot be cured by asking again.
        """
        end_s = boottime_s() + (deadline_s or self.deadline_s)
        pause_s = 0.05
        while True:
            try:
                return await ask()
            except Exception as error:
                if not is_retriable(error):
                    raise _translated(error, what) from error
                if boottime_s() + pause_s > end_s:
                    raise KafkaUnavailable(
                        f"{what}: no success within {deadline_s or self.deadline_s:.0f} s, at last: {_reason(error)}",
                        hint=f"{_where_to_look(error)}, then run the same command again.",
                    ) from None
            self.forget_routes()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_s = min(2 * pause_s, 1.0)

    def forget_routes(self) -> None:
        """Look leaders and coordinators up again before the next request."""
        self._leaders.clear()
        self._coordinators.clear()

    async def _look_up(self, name: str, node: int | None = None) -> TopicView | None:
        answer = await self._send(self._any_node() if node is None else node, protocol.metadata([name]))
        self._connections.know_brokers(answer)
        code, _, topic_id, _, partitions, *_ = answer.topics[0]
        if code == UNKNOWN_TOPIC:
            return None
        check(code, f"describing topic {name}", needs="Describe")
        leaders = {partition: leader for _, partition, leader, *_ in partitions}
        self._leaders.update({(name, partition): leader for partition, leader in leaders.items() if leader >= 0})
        return TopicView(answer.cluster_id or "", topic_id, leaders, min((len(p[4]) for p in partitions), default=0))

    async def _check_topic(self, target: Partition) -> None:
        """Find the partition's leader; refuse when the topic is gone or another of the same name stands there."""
        view = await self._look_up(target.topic, self._leaders.get((target.topic, target.partition)))
        if view is None:
            # A broker that was just started may not know the topic yet: gone is what stays away.
            self._missing_since_s = self._missing_since_s or boottime_s()
            if boottime_s() - self._missing_since_s < GONE_AFTER_S:
                raise BrokerError(UNKNOWN_TOPIC, f"topic {target.topic}")
            raise JobConflict(
                f"topic {target.topic} was deleted while this job was writing to it", hint=_RESET.format(target.topic)
            )
        self._missing_since_s = None
        if view.topic_id != target.topic_id:
            self.forget_routes()
            raise JobConflict(
                f"topic {target.topic} is not the one this job began with: "
                f"its id was {target.topic_id}, it is {view.topic_id} (deleted and made again?)",
                hint=_RESET.format(target.topic),
            )
        if view.leaders.get(target.partition, -1) < 0:
            raise BrokerError(5, f"partition {target} has no leader")

    def _any_node(self) -> Any:
        node = self._connections.get_random_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker is known")
        return node

    async def _send(self, node: Any, request: Any) -> Any:
        return await self._connections.send(node, request)


def is_retriable(error: Exception) -> bool:
    """True for faults of transport (a token endpoint's too), and for answers that a leader change or a pause cures."""
    if isinstance(error, BrokerError):
        return error.retriable
    return isinstance(error, (*_TRANSPORT, KafkaUnavailable)) and machine_limit(error) is None


def _translated(error: Exception, what: str) -> Exception:
    """What cannot be cured by asking again, as an error for the operator; a bug as it is."""
    told = f"{what}: {_reason(error)}"
    if isinstance(error, BrokerError):
        return ConfigError(str(error), hint="The cluster refused this for good: the brokers' logs say why.")
    if isinstance(error, kafka_errors.IncompatibleBrokerVersion):
        return ConfigError(told, hint="csv2kafka needs Apache Kafka 3.4 or later (or a service that runs its broker).")
    if isinstance(error, kafka_errors.KafkaError):
        return Denied(told, hint="Check user, password and sasl.mechanism in the client properties.")
    return machine_limit(error) or error


def _reason(error: Exception) -> str:
    """What went wrong, also where an exception says nothing but its name."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__


def _where_to_look(error: Exception) -> str:
    if isinstance(error, BrokerError):
        return "A broker answers, but cannot do it yet: see why in the brokers' logs"
    return "See whether the brokers are up"
