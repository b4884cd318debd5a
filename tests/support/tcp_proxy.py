"""A TCP proxy on 127.0.0.1 that delays, holds back or cuts what passes: a network of any length and any mood.

    with TcpProxy(broker_port, up_s=0.005, down_s=0.005) as proxy:  # 10 ms there and back
        ... connect to proxy.port ...

Within a connection bytes are never left out or put out of order, nor changed, but by `forge`, and no protocol is known
here (far_broker.py sets one up for Kafka). A client's end, be it a reset, takes back nothing that it sent: that still
arrives, then the end does. The proxy runs in a thread of its own: methods may be called from any other thread, and have
taken effect when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self, TypeVar

HOST = "127.0.0.1"
Direction = Literal["up", "down"]  # towards the target, and back

_CHUNK_BYTES = 256 << 10
_MAX_CHUNKS = 256  # under way in one direction of one connection; then the proxy stops reading, as a network does
_PATIENCE_S = 30.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Answer = TypeVar("Answer")


class TcpProxy:
    """Passes connections to `port` on to 127.0.0.1:`target_port`, each direction delayed by so many seconds."""

    def __init__(self, target_port: int, *, port: int = 0, up_s: float = 0.0, down_s: float = 0.0) -> None:
        self._target_port = target_port
        self._delay_s: dict[Direction, float] = {"up": up_s, "down": down_s}
        self._flows = _flowing()  # of connections to come
        self._all_flows = [self._flows]
        self._has_held: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._pass_up_bytes: int | None = None
        self.forge: Callable[[bytes], bytes] = lambda said: said  # what clients are told instead of what was said
        self.truncated = 0  # connections that `truncate` has cut
        self.unheard: list[bytes] = []  # what the target said to clients that were gone
        self._is_refusing = False
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}  # with the client's side
        # select, unlike epoll, can wait for less than a millisecond
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, HOST, port, limit=_CHUNK_BYTES))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def delay(self, *, up_s: float, down_s: float) -> None:
        """New delays, for bytes that arrive from now on."""
        self._delay_s = {"up": up_s, "down": down_s}

    def hold(self, *directions: Direction) -> None:
        """Keep back everything that goes in these directions until `release`. Connections stay open."""
        self._call(self._hold(directions))

    def release(self) -> None:
        """Send on what was held back."""
        self._call(self._release())

    def wait_held(self, direction: Direction) -> None:
        """Return as soon as `hold` has kept something back in this direction; TimeoutError when nothing comes."""
        self._call(asyncio.wait_for(self._has_held[direction].wait(), _PATIENCE_S))

    def drop_answer(self) -> None:
        """Behind `hold("down")`: once an answer has come, reset all connections without it; new ones flow freely."""
        self.wait_held("down")
        self.cut()
        self.release()

    def strand(self) -> None:
        """Reset the clients' side of all connections. What is held back stays so until `release`, to be delivered
        then, while connections made from now on flow: as a network that comes to life again with old packets in it.
        """
        self._call(self._strand())

    def truncate(self, *, up_bytes: int) -> None:
        """Let only so many more bytes pass upwards, then reset the connection that brings the next one."""
        self._pass_up_bytes = up_bytes

    def cut(self, *, refuse: bool = False) -> None:
        """Reset all connections; what is under way in them is lost. `refuse`: and every new one until `restore`."""
        self._call(self._cut(refuse))

    def restore(self) -> None:
        """Let new connections through again."""
        self._is_refusing = False

    def close(self) -> None:
        """Reset all connections and stop listening. May be called again."""
        if not self._loop.is_closed():
            self._call(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * _PATIENCE_S)

    async def _hold(self, directions: tuple[Direction, ...]) -> None:
        for direction in directions:
            self._has_held[direction].clear()
            for flows in self._all_flows:
                flows[direction].clear()

    async def _release(self) -> None:
        for flows in self._all_flows:
            for flow in flows.values():
                flow.set()
        self._all_flows = [self._flows]

    async def _strand(self) -> None:
        self._flows = _flowing()
        self._all_flows.append(self._flows)
        for client in self._connections.values():
            _reset(client)

    async def _cut(self, refuse: bool) -> None:
        self._is_refusing = refuse
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _stop(self) -> None:
        self._server.close()
        await self._cut(True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections[connection] = writer
        writers = [writer]
        how_it_ends: Callable[[asyncio.StreamWriter], None] = _reset
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                if self._is_refusing:
                    return
                far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port, limit=_CHUNK_BYTES)
                writers.append(far_writer)
                flows, client_gone = self._flows, asyncio.Event()
                await _all_or_none(
                    self._pump(reader, far_writer, "up", flows["up"], client_gone),
                    self._pump(far_reader, writer, "down", flows["down"], client_gone),
                )
                how_it_ends = asyncio.StreamWriter.close
            finally:
                del self._connections[connection]
                for each in writers:
                    how_it_ends(each)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        flow: asyncio.Event,
        client_gone: asyncio.Event,
    ) -> None:
        """Pass one direction on until its end, which is passed on as well."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_CHUNKS)

        async def read() -> None:
            data = b"?"
            while data:
                try:
                    data = await reader.read(_CHUNK_BYTES)
                except ConnectionError:
                    if direction == "down":
                        raise
                    data = b""
                if direction == "up" and not data:
                    client_gone.set()
                await under_way.put((self._loop.time() + self._delay_s[direction], data))

        async def write() -> None:
            data = b"?"
            while data:
                due_s, data = await under_way.get()
                await asyncio.sleep(due_s - self._loop.time())
                if not flow.is_set():
                    self._has_held[direction].set()
                    await flow.wait()
                if direction == "up":
                    await self._write_up(data, writer)
                elif client_gone.is_set():
                    self.unheard += [data] if data else []
                else:
                    with contextlib.suppress(ConnectionError):  # it has just gone; the other pump learns it, too
                        await _write(self.forge(data), writer)

        await _all_or_none(read(), write())

    async def _write_up(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        left_bytes = self._pass_up_bytes
        if left_bytes is not None and len(data) > left_bytes:
            self._pass_up_bytes = None
            self.truncated += 1
            await _write(data[:left_bytes], writer)
            raise ConnectionAbortedError("truncated")
        if left_bytes is not None:
            self._pass_up_bytes = left_bytes - len(data)
        await _write(data, writer)


def _flowing() -> dict[Direction, asyncio.Event]:
    flows: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
    for flow in flows.values():
        flow.set()
    return flows


async def _write(data: bytes, writer: asyncio.StreamWriter) -> None:
    """Nothing to write means the end."""
    if not data:
        writer.write_eof()
        return
    writer.write(data)
    await writer.drain()


async def _all_or_none(*parts: Coroutine[Any, Any, None]) -> None:
    """Run them together; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
