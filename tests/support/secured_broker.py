"""A broker with listeners for every way of coming in, which lets users do only what they were granted.

Whoever comes to `Broker.bootstrap` needs no password and may do everything: the oracle, the administrator.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from csv2kafka.devbroker import HOST, Broker
from tests.support.admin import create_topic
from tests.support.certificates import Authority
from tests.support.token_server import AUDIENCE, ISSUER, TokenServer

USER, PASSWORD = "loader", "only-for-tests"
PATIENCE_S = 30


class Grant(NamedTuple):
    """An operation, in Kafka's own word (READ, DESCRIBE_CONFIGS ...), and the resource of that exact name."""

    operation: str
    resource: ResourceType
    name: str


class SecuredBroker:
    """`addresses` are the listeners', `bootstrap` the one that wants a password alone, `open_bootstrap` that of the
    door that is open to all.
    """

    def __init__(self, broker: Broker, addresses: dict[str, str], authority: Authority, tokens: TokenServer) -> None:
        self.addresses = addresses
        self.bootstrap = addresses["GUARDED"]
        self.authority = authority
        self.tokens = tokens
        self.log_path = broker.log_path
        self.open_bootstrap = broker.bootstrap
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def add_scram_user(self) -> None:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):  # one at a time, says the broker
            change = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            self._admin.alter_user_scram_credentials([change])[USER].result(timeout=PATIENCE_S)
        self._wait_until_in_force()

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


# One for each way of coming in. What is not said of it comes from `_listener_properties`.
LISTENERS = {
    "GUARDED": ("SASL_PLAINTEXT", {"sasl.enabled.mechanisms": "PLAIN"}),
    "LOGIN": ("SASL_SSL", {"sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"}),
    "BARE_LOGIN": ("SASL_PLAINTEXT", {"sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512"}),
    "BRIEF": ("SASL_SSL", {"sasl.enabled.mechanisms": "SCRAM-SHA-256", "connections.max.reauth.ms": "1000"}),
    "TOKEN": ("SASL_SSL", {"sasl.enabled.mechanisms": "OAUTHBEARER"}),
    "BARE_TOKEN": ("SASL_PLAINTEXT", {"sasl.enabled.mechanisms": "OAUTHBEARER"}),
    "TLS": ("SSL", {}),
    "MUTUAL": ("SSL", {"ssl.client.auth": "required", "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/"}),
    "EXPIRED": ("SSL", {}),
    "OTHERS": ("SSL", {}),  # with a certificate for another host
}


@contextmanager
def secured_broker(folder: Path, version: str) -> Iterator[SecuredBroker]:
    """`folder` takes the keys and certificates of the run."""
    with ExitStack() as held:
        port, controller_port = (_hold_port(held) for _ in range(2))
        addresses = {name: f"{HOST}:{_hold_port(held)}" for name in LISTENERS}
        authority = Authority(folder)
        tokens = held.enter_context(TokenServer(authority.issue("idp")))
        listeners = ["PLAINTEXT://" + f"{HOST}:{port}", *(f"{name}://{at}" for name, at in addresses.items())]
        protocols = ",".join(f"{name}:{protocol}" for name, (protocol, _) in LISTENERS.items())
        jwks = tokens.write_jwks(folder / "jwks.json").as_uri()
        properties = {
            "listeners": ",".join((*listeners, f"CONTROLLER://{HOST}:{controller_port}")),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{protocols}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
        }
        for name in LISTENERS:
            settings = _listener_properties(name, authority, jwks)
            properties |= {f"listener.name.{name.lower()}.{key}": value for key, value in settings.items()}
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={jwks}"
        broker = held.enter_context(Broker(port=port, properties=properties, version=version, java_options=(allowed,)))
        secured = SecuredBroker(broker, addresses, authority, tokens)
        secured.add_scram_user()
        yield secured


def _listener_properties(name: str, authority: Authority, jwks: str) -> dict[str, str]:
    protocol, settings = LISTENERS[name]
    properties = dict(settings)
    if protocol.endswith("SSL"):
        special = {"EXPIRED": {"days": -1}, "OTHERS": {"host": "broker-7.test"}}
        properties |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(authority.issue("broker", **special.get(name, {}))),  # type: ignore[arg-type]
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.ca),
        }
    for mechanism in settings.get("sasl.enabled.mechanisms", "").split(","):
        properties |= {f"{mechanism.lower()}.{key}": value for key, value in _mechanism_properties(mechanism, jwks)}
    return properties


def _mechanism_properties(mechanism: str, jwks: str) -> Iterator[tuple[str, str]]:
    security = "org.apache.kafka.common.security"
    if mechanism == "PLAIN":
        yield "sasl.jaas.config", f'{security}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    elif mechanism.startswith("SCRAM"):
        yield "sasl.jaas.config", f"{security}.scram.ScramLoginModule required;"
    elif mechanism:
        yield "sasl.jaas.config", f"{security}.oauthbearer.OAuthBearerLoginModule required;"
        handler = f"{security}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        yield "sasl.server.callback.handler.class", handler
        yield "sasl.oauthbearer.jwks.endpoint.url", jwks
        yield "sasl.oauthbearer.expected.audience", AUDIENCE
        yield "sasl.oauthbearer.expected.issuer", ISSUER


def _hold_port(held: ExitStack) -> int:
    """A free port that nobody else gets: the broker's own socket may be bound beside one that never listens."""
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((HOST, 0))
    return int(probe.getsockname()[1])
