"""A broker that some clients reach only through a TCP proxy, wherever its own answers send them.

It has two listeners: clients that begin at the proxy stay behind it; the broker itself, and clients of
`Broker.bootstrap`, never pass it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from csv2kafka.devbroker import Broker
from tests.support.tcp_proxy import HOST, TcpProxy


@contextmanager
def far_broker(
    properties: Mapping[str, str] | None = None, *, heap_mb: int = 768
) -> Iterator[tuple[Broker, TcpProxy, str]]:
    """A broker, the proxy in front of its second listener, and the proxy's address for clients."""
    broker_port, controller_port, far_port = _free_ports(3)
    with TcpProxy(far_port) as proxy:
        listeners = {
            "listeners": f"PLAINTEXT://{HOST}:{broker_port},CONTROLLER://{HOST}:{controller_port},"
            f"FAR://{HOST}:{far_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{broker_port},FAR://{HOST}:{proxy.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        }
        with Broker(port=broker_port, properties={**listeners, **(properties or {})}, heap_mb=heap_mb) as broker:
            yield broker, proxy, f"{HOST}:{proxy.port}"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
