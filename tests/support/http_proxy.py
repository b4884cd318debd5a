"""An HTTP proxy on 127.0.0.1 before an S3 or DynamoDB server: passes requests on, or does to them what a fault says.

    with HttpProxy(moto_server) as proxy:  # give the program under test AWS_ENDPOINT_URL=proxy.url
        proxy.next(s3_error(503, "SlowDown"), times=3, when=asks("GetObject"))  # the next three GETs; then it behaves
        proxy.rule = lambda request: reset_after(9000) if rng.random() < 0.05 else None  # each request not taken above
        proxy.outage()  # every connection is reset at once, new ones too ...
        proxy.heal()  # ... until now
        proxy.wait_for(lambda: proxy.played["s3_error"] == 3)
        proxy.requests  # everything that arrived, in order; `request.operation` is GetObject, HeadObject, PutItem ...
        proxy.answers  # what the server said, in order, bodies cut to a kilobyte

Faults: answer, s3_error, throttled, drop_response, cut_request, short_body, reset_after, stall_after, silent, delayed,
held, without_range, during. `next` faults are used up in order, one for each request that its `when` accepts; `rule` is
asked for every other request and returns a fault or None. A rule and a `when` run in the proxy's thread, one at a time.
`played` counts the faults that began, by name. HTTP/1.1 with Content-Length only; a new connection to the server for
each request, so that nothing the client's connection suffers is passed on. Other methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import socket
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

HOST = "127.0.0.1"
_MAX_BYTES = 256 << 20  # of a request's or an answer's head or body
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Result = TypeVar("Result")


class Request(NamedTuple):
    method: str
    path: str  # with its query
    headers: dict[str, str]  # names in small letters
    body: bytes

    @property
    def operation(self) -> str:
        """DynamoDB's name for it (PutItem), or S3's: GetObject, HeadObject; else the method."""
        target = self.headers.get("x-amz-target", "")
        return target.rpartition(".")[2] or {"GET": "GetObject", "HEAD": "HeadObject"}.get(self.method, self.method)


class Answer(NamedTuple):
    head: bytes  # up to and with the empty line
    body: bytes


Rule = Callable[[Request], "Fault | None"]
When = Callable[[Request], bool]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    play: Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class _Queued:
    fault: Fault
    times: int
    when: When


class _Hangup(Exception):
    """Ends the connection to the client: with a FIN, or with a reset."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


class Exchange:
    """One request on its way, as a fault sees it. Everything here runs in the proxy's thread."""

    def __init__(self, proxy: HttpProxy, request: Request, client: Streams) -> None:
        self.proxy, self.request, self._client = proxy, request, client

    async def serve(self, request: Request | None = None) -> Answer:
        """Have the server answer the request (or another one in its place)."""
        method, path, headers, body = request or self.request
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        server = Streams(*await asyncio.open_connection(HOST, self.proxy.target_port, limit=_MAX_BYTES))
        try:
            server.writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1") + body)
            await server.writer.drain()
            raw = await server.reader.read(-1)
        finally:
            server.writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        lines_back = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        answer = Answer(b"\r\n".join([*lines_back, b"", b""]), body)
        self.proxy.answers.append(answer._replace(body=body[:1024]))
        return answer

    async def reply(self, answer: Answer) -> None:
        self._client.writer.write(answer.head + answer.body)
        await self._client.writer.drain()

    async def pass_on(self) -> None:
        await self.reply(await self.serve())

    async def arrived(self) -> None:
        """Wait until the client's system has everything: a reset would take with it what is still under way."""
        transport, unacknowledged = self._client.writer.transport, bytearray(4)
        while not transport.is_closing():
            fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unacknowledged)
            if not transport.get_write_buffer_size() and not any(unacknowledged):
                return
            await asyncio.sleep(0.001)

    async def until_hung_up(self) -> None:
        """Wait for the client to close the connection."""
        await self._client.reader.read(1)
        raise _Hangup(reset=False)


class Streams(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def asks(*operations: str) -> When:
    """For `when`: requests of these operations."""
    return lambda request: request.operation in operations


def answer(status: int, body: bytes = b"", content_type: str = "text/plain", *, name: str = "answer") -> Fault:
    """This answer, without asking the server."""
    head = f"HTTP/1.1 {status} Fault\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"

    async def play(exchange: Exchange) -> None:
        await exchange.reply(Answer(head.encode(), b"" if exchange.request.method == "HEAD" else body))

    return Fault(name, play)


def s3_error(status: int, code: str) -> Fault:
    """As (503, "SlowDown") or (500, "InternalError"). A HEAD gets the status alone, as S3 does it."""
    body = f"<Error><Code>{code}</Code><Message>because of the test</Message></Error>"
    return answer(status, body.encode(), "application/xml", name="s3_error")


def throttled(code: str = "ProvisionedThroughputExceededException") -> Fault:
    """DynamoDB has no capacity left for the table (or says another `code`)."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "because of the test"}
    return answer(400, json.dumps(body).encode(), "application/x-amz-json-1.0", name="throttled")


def drop_response() -> Fault:
    """The server does what was asked; the connection breaks before its answer."""

    async def play(exchange: Exchange) -> None:
        await exchange.serve()
        raise _Hangup(reset=True)

    return Fault("drop_response", play)


def cut_request() -> Fault:
    """The connection breaks before the server hears of the request."""

    async def play(_: Exchange) -> None:
        raise _Hangup(reset=True)

    return Fault("cut_request", play)


def short_body(after_bytes: int) -> Fault:
    """The whole head, so many bytes of the body, and a polite end of the connection."""
    return Fault("short_body", partial(_part, after_bytes=after_bytes, then=_hang_up))


def reset_after(after_bytes: int) -> Fault:
    """The whole head, so many bytes of the body, and a reset."""
    return Fault("reset_after", partial(_part, after_bytes=after_bytes, then=partial(_hang_up, reset=True)))


def stall_after(after_bytes: int) -> Fault:
    """The whole head, so many bytes of the body, and then silence until the client gives up."""
    return Fault("stall_after", partial(_part, after_bytes=after_bytes, then=Exchange.until_hung_up))


async def _part(exchange: Exchange, *, after_bytes: int, then: Callable[[Exchange], Awaitable[None]]) -> None:
    whole = await exchange.serve()
    await exchange.reply(Answer(whole.head, whole.body[:after_bytes]))
    await then(exchange)


async def _hang_up(exchange: Exchange, *, reset: bool = False) -> None:
    await exchange.arrived()
    raise _Hangup(reset=reset)


def silent() -> Fault:
    """The server does not hear of the request, and no answer ever comes."""
    return Fault("silent", Exchange.until_hung_up)


def delayed(seconds: float) -> Fault:
    """Pass it on later."""

    async def play(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await exchange.pass_on()

    return Fault("delayed", play)


def held() -> Fault:
    """Pass it on at the next `proxy.release()`, though the client may have given up by then."""

    async def play(exchange: Exchange) -> None:
        await exchange.proxy.released.wait()
        await exchange.pass_on()

    return Fault("held", play)


def without_range() -> Fault:
    """The server does not hear of the Range header, and answers with the whole object."""

    async def play(exchange: Exchange) -> None:
        headers = {name: value for name, value in exchange.request.headers.items() if name != "range"}
        await exchange.reply(await exchange.serve(exchange.request._replace(headers=headers)))

    return Fault("without_range", play)


def during(action: Callable[[], object], then: Fault | None = None) -> Fault:
    """Let the world change (in a thread) between the request's arrival and its being passed on, or another fault."""

    async def play(exchange: Exchange) -> None:
        await asyncio.to_thread(action)
        await (then.play if then else Exchange.pass_on)(exchange)

    return Fault("during", play)


class HttpProxy:
    """Passes what comes to `url` on to the server at `target_url` (http://127.0.0.1:PORT)."""

    def __init__(self, target_url: str) -> None:
        self.target_port = urlsplit(target_url).port
        self.rule: Rule = lambda _: None
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.played: Counter[str] = Counter()
        self._queue: list[_Queued] = []
        self._lock = threading.Lock()
        self._is_out = False
        self._connections: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http-proxy", daemon=True)
        self._thread.start()
        self.released = asyncio.Event()
        self._server = self._call(asyncio.start_server(self._serve, HOST, limit=_MAX_BYTES))
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def next(self, fault: Fault, *, times: int = 1, when: When = lambda _: True) -> None:
        """Play the fault for the next so many requests that `when` accepts and that no earlier fault waits for."""
        with self._lock:
            self._queue.append(_Queued(fault, times, when))

    def outage(self) -> None:
        """Reset all connections, and every new one until `heal`."""
        self._is_out = True
        self._call(self._cut())

    def heal(self) -> None:
        """End an outage, and forget all faults that wait for a request."""
        self._is_out = False
        self.rule = lambda _: None
        with self._lock:
            self._queue.clear()

    def release(self) -> None:
        """Let go of what `held` holds now."""
        self._call(self._release())

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        """Return when the condition (about `played` or `requests`, say) is met; fails if it is not met in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s} s in vain; played so far: {dict(self.played)}"
            time.sleep(0.01)

    def close(self) -> None:
        """Reset all connections and stop listening. May be called again."""
        if not self._loop.is_closed():
            self.outage()
            self._loop.call_soon_threadsafe(self._server.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _release(self) -> None:
        self.released.set()
        self.released = asyncio.Event()

    async def _cut(self) -> None:
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        reset = True
        try:
            while not self._is_out:
                request = await _read(reader)
                self.requests.append(request)
                await self._play(Exchange(self, request, Streams(reader, writer)))
        except _Hangup as hangup:
            reset = hangup.reset
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            with contextlib.suppress(OSError):
                if reset:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.close()

    async def _play(self, exchange: Exchange) -> None:
        fault = self._fault_for(exchange.request)
        if fault is None:
            await exchange.pass_on()
        else:
            self.played[fault.name] += 1
            await fault.play(exchange)

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            for queued in self._queue:
                if queued.when(request):
                    queued.times -= 1
                    if queued.times == 0:
                        self._queue.remove(queued)
                    return queued.fault
        return self.rule(request)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    headers.pop("connection", None)
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
