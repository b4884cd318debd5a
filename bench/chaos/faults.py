"""What can befall the world while a loader runs: a table, and one small function for each kind of fault.

Each function makes the fault when it is entered and undoes it when it is left; details come from `rng`.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bench.chaos.world import World
from tests.support import http_proxy
from tests.support.http_proxy import HttpProxy, Request

Strike = Callable[[World, random.Random], AbstractContextManager[None]]

_AGAIN = 75
_MOST_IN_A_ROW = 6  # failures of one request; the loader gives up at the tenth
_UNLIMITED_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Fault:
    """`target`: the part of the world that it befalls, which one fault at a time does. `lasts_s`: from a moment while
    rows are being sent on, for so long; None: from before the loader's start to its end.
    `allows`: exit codes besides 0 that a loader may have because of it.
    """

    strike: Strike
    target: str
    weight: int
    lasts_s: tuple[float, float] | None = None
    needs: str | None = None
    allows: frozenset[int] = field(default_factory=frozenset)


@contextmanager
def _broker_killed(world: World, _: random.Random) -> Iterator[None]:
    world.broker.kill()
    yield
    world.broker.restart()


@contextmanager
def _broker_restarted(world: World, _: random.Random) -> Iterator[None]:
    world.broker.restart()
    yield


@contextmanager
def _broker_paused(world: World, _: random.Random) -> Iterator[None]:
    world.broker.pause()
    yield
    world.broker.resume()


@contextmanager
def _connections_cut(world: World, _: random.Random) -> Iterator[None]:
    world.kafka.cut()
    yield
    world.kafka.cut()


@contextmanager
def _connections_refused(world: World, _: random.Random) -> Iterator[None]:
    world.kafka.cut(refuse=True)
    yield
    world.kafka.restore()


@contextmanager
def _bytes_held(world: World, rng: random.Random) -> Iterator[None]:
    world.kafka.hold(*rng.choice((("up",), ("down",), ("up", "down"))))
    yield
    world.kafka.release()


@contextmanager
def _responses_dropped(world: World, _: random.Random) -> Iterator[None]:
    """What was asked meanwhile is done; nobody hears of it."""
    world.kafka.hold("down")
    yield
    world.kafka.cut()
    world.kafka.release()


@contextmanager
def _request_truncated(world: World, rng: random.Random) -> Iterator[None]:
    world.kafka.truncate(up_bytes=int(2 ** rng.uniform(0, 21)))
    yield
    world.kafka.truncate(up_bytes=_UNLIMITED_BYTES)


@contextmanager
def _latency(world: World, rng: random.Random) -> Iterator[None]:
    world.kafka.delay(up_s=rng.uniform(0, 0.1), down_s=rng.uniform(0, 0.1))
    yield
    world.set_round_trip(world.round_trip_s)


def _s3(*kinds: str) -> Strike:
    return lambda world, rng: _some_requests(world.s3, rng, kinds)


def _dynamodb(*kinds: str) -> Strike:
    return lambda world, rng: _some_requests(world.dynamodb, rng, kinds)


@contextmanager
def _some_requests(proxy: HttpProxy, rng: random.Random, kinds: tuple[str, ...]) -> Iterator[None]:
    """A random share of the requests meets one of these faults, no request too often."""
    share = rng.uniform(0.05, 0.4)
    failed: Counter[tuple[str, str]] = Counter()

    def rule(request: Request) -> http_proxy.Fault | None:
        what = request.operation, request.headers.get("range", "").rpartition("-")[2]  # repeats keep a range's end
        if failed[what] >= _MOST_IN_A_ROW or rng.random() > share:
            return None
        failed[what] += 1
        return HTTP_FAULTS[rng.choice(kinds)](rng)

    proxy.rule = rule
    yield
    proxy.heal()


@contextmanager
def _dynamodb_gone(world: World, _: random.Random) -> Iterator[None]:
    world.dynamodb.outage()
    yield
    world.dynamodb.heal()


_INTERNAL = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": "so it goes"})
HTTP_FAULTS: dict[str, Callable[[random.Random], http_proxy.Fault]] = {
    "s3-500": lambda _: http_proxy.s3_error(500, "InternalError"),
    "s3-slow-down": lambda _: http_proxy.s3_error(503, "SlowDown"),
    "reset": lambda rng: http_proxy.reset_after(int(2 ** rng.uniform(0, 22))),
    "short-body": lambda rng: http_proxy.short_body(int(2 ** rng.uniform(0, 22))),
    "stall": lambda rng: http_proxy.delayed(rng.uniform(0.1, 1.5)),
    "throttled": lambda _: http_proxy.throttled(),
    "dynamodb-500": lambda _: http_proxy.answer(500, _INTERNAL.encode(), "application/x-amz-json-1.0"),
    "lost-reply": lambda _: http_proxy.drop_response(),
    "lost-request": lambda _: http_proxy.cut_request(),
}

_MAY_GIVE_UP = frozenset({_AGAIN})  # a store that stays away for longer than the lease lasts ends a run

FAULTS: dict[str, Fault] = {
    "broker-killed": Fault(_broker_killed, "broker", 2, (0.0, 2.0)),
    "broker-restarted": Fault(_broker_restarted, "broker", 2, (0.0, 0.0)),
    "broker-paused": Fault(_broker_paused, "broker", 3, (0.5, 5.0)),
    "connections-cut": Fault(_connections_cut, "network", 4, (0.0, 0.5)),
    "connections-refused": Fault(_connections_refused, "network", 3, (0.2, 4.0)),
    "bytes-held": Fault(_bytes_held, "network", 3, (0.2, 3.0)),
    "responses-dropped": Fault(_responses_dropped, "network", 5, (0.05, 1.0)),
    "request-truncated": Fault(_request_truncated, "network", 4, (0.0, 0.5)),
    "latency": Fault(_latency, "network", 3, (0.5, 2.0)),
    "s3-errors": Fault(_s3("s3-500", "s3-slow-down"), "s3", 8, needs="s3"),
    "s3-broken": Fault(_s3("reset", "short-body", "lost-request"), "s3", 8, needs="s3"),
    "s3-slow": Fault(_s3("stall"), "s3", 4, needs="s3"),
    "dynamodb-throttled": Fault(_dynamodb("throttled"), "dynamodb", 4, needs="dynamodb", allows=_MAY_GIVE_UP),
    "dynamodb-errors": Fault(
        _dynamodb("dynamodb-500", "lost-request"), "dynamodb", 4, needs="dynamodb", allows=_MAY_GIVE_UP
    ),
    "dynamodb-lost-replies": Fault(_dynamodb("lost-reply"), "dynamodb", 5, needs="dynamodb", allows=_MAY_GIVE_UP),
    "dynamodb-gone": Fault(_dynamodb_gone, "dynamodb", 2, (1.0, 14.0), "dynamodb", _MAY_GIVE_UP),
}
