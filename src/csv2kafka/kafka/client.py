"""Connections to the cluster: who leads, who coordinates, asking again when that changed. One partition's view.

Everything else in this package speaks through `Client`. Error codes become exceptions here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.coordination import FindCoordinatorRequest

from csv2kafka.clock import boottime_s
from csv2kafka.errors import ConfigError, Denied, JobConflict, KafkaUnavailable
from csv2kafka.kafka import protocol
from csv2kafka.settings import KafkaSettings

Answer = TypeVar("Answer")

UNKNOWN_TOPIC = 3
_TRANSACTION_COORDINATOR = 1
_GONE_AFTER_S = 10.0
_RESET = "The rows sent so far went with it. To load the file from row 1 into {}: csv2kafka reset JOB, then run again."
# Codes after which the same request may be sent again, to whoever leads or coordinates then.
_RETRIABLE = frozenset({2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 51, 56, 72, 74, 75, 78, 89})
_TRANSPORT = (OSError, asyncio.TimeoutError, kafka_errors.KafkaConnectionError, kafka_errors.NodeNotReadyError)
_ALSO_TRANSPORT = (kafka_errors.RequestTimedOutError, kafka_errors.StaleMetadata, kafka_errors.CorrelationIdError)
_DENIED = {
    29: "the topic (Write, Describe; Read for a resume; Create where it is missing)",
    30: "the consumer group",
    31: "the cluster (IdempotentWrite, Create, DescribeConfigs)",
    53: "the transactional id (Write, Describe)",
    58: "this user: the password or token was refused",
}


class BrokerError(Exception):
    """A broker's answer with an error code that is not OK. Never leaves this package."""

    def __init__(self, code: int, what: str) -> None:
        self.code = code
        self.name = kafka_errors.for_code(code).__name__.removesuffix("Error")
        super().__init__(f"{what}: {self.name} (error {code})")

    @property
    def retriable(self) -> bool:
        return self.code in _RETRIABLE


def check(code: int, what: str) -> None:
    """Raise for an error code: Denied where a permission is missing, BrokerError otherwise."""
    if code in _DENIED:
        raise Denied(
            f"{what}: the cluster denies access to {_DENIED[code]} (error {code})",
            hint="Grant the permission (kafka-acls.sh --add --allow-principal ...) and run the same command again.",
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
    """aiokafka's connections, without its habit of asking for all topics and of creating those that it names."""

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        if ("bootstrap", ConnectionGroup.DEFAULT) in self._conns:
            nodes.append("bootstrap")
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                answer = await connection.send(protocol.metadata([]))
            except (*_TRANSPORT, *_ALSO_TRANSPORT):
                continue
            self.know_brokers(answer)
            return True
        return False

    def know_brokers(self, answer: Any) -> None:
        """Keep the brokers of a Metadata answer, in the shape that aiokafka's cluster view reads."""
        brokers = [broker[:4] for broker in answer.brokers]
        self.cluster.update_metadata(
            SimpleNamespace(API_VERSION=5, brokers=brokers, controller_id=answer.controller_id, topics=[])
        )


def _connections(settings: KafkaSettings) -> _Connections:
    ssl_context = None
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        try:
            ssl_context = create_ssl_context(
                cafile=settings.ssl_cafile,
                certfile=settings.ssl_certfile,
                keyfile=settings.ssl_keyfile,
                password=settings.ssl_password.get_secret_value() if settings.ssl_password else None,
            )
        except OSError as error:
            raise ConfigError(
                f"the TLS files cannot be used: {error}",
                hint="Check the ssl.* properties: paths, PEM format, password.",
            ) from None
    return _Connections(
        bootstrap_servers=settings.bootstrap,
        client_id=settings.client_id,
        request_timeout_ms=settings.request_timeout_ms,
        security_protocol=settings.security_protocol,
        ssl_context=ssl_context,
        sasl_mechanism=settings.sasl_mechanism or "PLAIN",
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=settings.sasl_password.get_secret_value() if settings.sasl_password else None,
    )


class Client:
    """An open connection to the cluster. `deadline_s` bounds every question, its repeats included."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.deadline_s = settings.delivery_timeout_s
        self._connections = _connections(settings)
        self._leaders: dict[tuple[str, int], int] = {}
        self._coordinators: dict[str, int] = {}
        self._missing_since_s: float | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connections.bootstrap()
        except kafka_errors.KafkaConnectionError:
            await self.close()
            raise KafkaUnavailable(
                f"no broker answers at {self.settings.bootstrap}",
                hint="Check the address (-b HOST:PORT), the network, and security.protocol; then run again.",
            ) from None
        except kafka_errors.KafkaError as error:
            await self.close()
            raise Denied(
                f"the cluster at {self.settings.bootstrap} refused the connection: {error}",
                hint="Check user, password and sasl.mechanism in the client properties.",
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

    async def ask_leader(self, target: Partition, request: Any) -> Any:
        """Send to the partition's leader, once. Raises BrokerError or a transport error; `persist` repeats."""
        key = (target.topic, target.partition)
        if key not in self._leaders:
            await self._check_topic(target)
        return await self._send(self._leaders[key], request)

    async def ask_coordinator(self, transactional_id: str, request: Any) -> Any:
        """Send to the transaction coordinator, once."""
        if transactional_id not in self._coordinators:
            answer = await self._send(
                self._any_node(), FindCoordinatorRequest(transactional_id, _TRANSACTION_COORDINATOR)
            )
            check(answer.error_code, f"finding the coordinator of {transactional_id}")
            self._coordinators[transactional_id] = answer.coordinator_id
            await self._connections.force_metadata_update()
        return await self._send(self._coordinators[transactional_id], request)

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
                        f"{what}: no success within {deadline_s or self.deadline_s:.0f} s, the last answer: {error!r}",
                        hint="See whether the brokers are up, then run the same command again.",
                    ) from None
            self.forget_routes()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_s = min(2 * pause_s, 1.0)

    def forget_routes(self) -> None:
        """Look leaders and coordinators up again before the next request."""
        self._leaders.clear()
        self._coordinators.clear()

    async def _look_up(self, name: str) -> TopicView | None:
        answer = await self._send(self._any_node(), protocol.metadata([name]))
        self._connections.know_brokers(answer)
        code, _, topic_id, _, partitions, *_ = answer.topics[0]
        if code == UNKNOWN_TOPIC:
            return None
        check(code, f"describing topic {name}")
        leaders = {partition: leader for _, partition, leader, *_ in partitions}
        self._leaders.update({(name, partition): leader for partition, leader in leaders.items() if leader >= 0})
        return TopicView(answer.cluster_id or "", topic_id, leaders, min((len(p[4]) for p in partitions), default=0))

    async def _check_topic(self, target: Partition) -> None:
        """Find the partition's leader; refuse when the topic is gone or another of the same name stands there."""
        view = await self._look_up(target.topic)
        if view is None:
            # A broker that was just started may not know the topic yet: gone is what stays away.
            self._missing_since_s = self._missing_since_s or boottime_s()
            if boottime_s() - self._missing_since_s < _GONE_AFTER_S:
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
    """True for faults of transport, and for answers that a leader change or a pause cures."""
    if isinstance(error, BrokerError):
        return error.retriable
    return isinstance(error, (*_TRANSPORT, *_ALSO_TRANSPORT))


def _translated(error: Exception, what: str) -> Exception:
    if isinstance(error, kafka_errors.IncompatibleBrokerVersion):
        return ConfigError(
            f"{what}: {error}", hint="csv2kafka needs Apache Kafka 3.4 or later (or a service that runs its broker)."
        )
    if isinstance(error, BrokerError):
        return ConfigError(str(error), hint="The cluster refused this for good: the brokers' logs say why.")
    if isinstance(error, kafka_errors.KafkaError):
        return Denied(f"{what}: {error}", hint="Check user, password and sasl.mechanism in the client properties.")
    return error
