"""A broker with a second listener that wants a user and a password, and lets users do only what they were granted.

Whoever comes to `Broker.bootstrap` needs no password and may do everything: the oracle, the administrator.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from csv2kafka.devbroker import HOST, Broker
from tests.support.admin import create_topic

USER, PASSWORD = "loader", "only-for-tests"
PATIENCE_S = 30


class Grant(NamedTuple):
    """An operation, in Kafka's own word (READ, DESCRIBE_CONFIGS ...), and the resource of that exact name."""

    operation: str
    resource: ResourceType
    name: str


class SecuredBroker:
    """`bootstrap` is the guarded listener's address, `open_bootstrap` the other one's."""

    def __init__(self, broker: Broker, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.open_bootstrap = broker.bootstrap
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def grant(self, *grants: Grant) -> None:
        """Allow USER to do this, from when this returns on."""
        bindings = [_binding(grant) for grant in grants]
        for done in self._admin.create_acls(bindings).values():
            done.result(timeout=PATIENCE_S)
        self._wait_until_in_force()

    def revoke(self, *grants: Grant) -> None:
        filters = [_binding(grant, AclBindingFilter) for grant in grants]
        for done in self._admin.delete_acls(filters).values():
            assert len(done.result(timeout=PATIENCE_S)) == 1
        self._wait_until_in_force()

    def _wait_until_in_force(self) -> None:
        """The broker takes the cluster's changes in their order: once it leads a topic made later, it has come to
        the one before.
        """
        topic = create_topic(self.open_bootstrap)
        self._admin.delete_topics([topic])[topic].result(timeout=PATIENCE_S)


def _binding(grant: Grant, kind: type = AclBinding) -> AclBinding | AclBindingFilter:
    return kind(
        grant.resource,
        grant.name,
        ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        AclOperation[grant.operation],
        AclPermissionType.ALLOW,
    )


@contextmanager
def secured_broker() -> Iterator[SecuredBroker]:
    with ExitStack() as held:
        port, controller_port, guarded_port = (_hold_port(held) for _ in range(3))
        login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        properties = {
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port},"
            f"GUARDED://{HOST}:{guarded_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port},GUARDED://{HOST}:{guarded_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        broker = held.enter_context(Broker(port=port, properties=properties))
        yield SecuredBroker(broker, f"{HOST}:{guarded_port}")


def _hold_port(held: ExitStack) -> int:
    """A free port that nobody else gets: the broker's own socket may be bound beside one that never listens."""
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((HOST, 0))
    return int(probe.getsockname()[1])
