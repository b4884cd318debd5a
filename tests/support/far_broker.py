"""A broker that some clients reach only through a TCP proxy, wherever its own answers send them.

It has two listeners: clients that begin at the proxy stay behind it; the broker itself, and clients of
`Broker.bootstrap`, never pass it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from csv2kafka.devbroker import KAFKA_VERSION, Broker
from tests.support.tcp_proxy import HOST, TcpProxy


@contextmanager
def far_broker(
    properties: Mapping[str, str] | None = None, *, heap_mb: int = 768, version: str = KAFKA_VERSION
) -> Iterator[tuple[Broker, TcpProxy, str]]:
    """A broker, the proxy in front of its second listener, and the proxy's address for clients."""
    with _own_ports(3) as (broker_port, controller_port, far_port), TcpProxy(far_port) as proxy:
        listeners = {
            "listeners": f"PLAINTEXT://{HOST}:{broker_port},CONTROLLER://{HOST}:{controller_port},"
            f"FAR://{HOST}:{far_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{broker_port},FAR://{HOST}:{proxy.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        }
        properties = {**listeners, **(properties or {})}
        with Broker(port=broker_port, properties=properties, heap_mb=heap_mb, version=version) as broker:
            yield broker, proxy, f"{HOST}:{proxy.port}"


@contextmanager
def _own_ports(count: int) -> Iterator[list[int]]:
    """Free ports that nobody else gets until the end, be the broker up or down: it listens beside sockets that do not.

    Without them the proxy, connecting again and again to a broker that is down, could be given its port and talk to
    itself there.
    """
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, 0))
        yield [int(probe.getsockname()[1]) for probe in probes]
