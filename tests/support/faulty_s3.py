"""One object behind a small S3 server that misbehaves as told: what moto and real servers never do on demand.

A fault is a function (request handler, first byte, last byte) that answers one ranged GET in place of the server.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Fault = Callable[["Handler", int, int], None]


class FaultyS3:
    """Serves `body` as every object of every bucket at `url`. `faults` are used up one a GET; then it behaves."""

    def __init__(self) -> None:
        self.serve(b"")
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.s3 = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def serve(self, body: bytes, *faults: Fault, head_faults: Sequence[int] = ()) -> None:
        """Begin anew with this object; `head_faults` are status codes, used up one a HEAD."""
        self.body = body
        self.etag = f'"{hashlib.md5(body).hexdigest()}"'
        self.faults = deque(faults)
        self.head_faults = deque(head_faults)
        self.ranges: list[tuple[int, int]] = []  # first and last byte of every GET, in order of arrival
        self.if_match: set[str | None] = set()
        self.connections = 0
        self.stalled = threading.Event()  # set when an answer stalls
        self.released = threading.Event()  # lets stalled answers end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    s3: FaultyS3

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what the tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.s3.connections += 1

    def do_HEAD(self) -> None:
        s3 = self.server.s3
        self.send_response(s3.head_faults.popleft() if s3.head_faults else 200)
        self.send_header("ETag", s3.etag)
        self.send_header("Content-Length", str(len(s3.body)))
        self.end_headers()

    def do_GET(self) -> None:
        s3 = self.server.s3
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert wanted, self.headers["Range"]
        first, last = int(wanted[1]), min(int(wanted[2]), len(s3.body) - 1)
        s3.ranges.append((first, last))
        s3.if_match.add(self.headers["If-Match"])
        if s3.faults:
            s3.faults.popleft()(self, first, last)
        elif self.headers["If-Match"] not in (None, s3.etag):
            refused(412, "PreconditionFailed")(self, first, last)
        else:
            self.begin(first, last)
            self.wfile.write(s3.body[first : last + 1])

    def begin(
        self,
        first: int,
        last: int,
        *,
        status: int = 206,
        content_range: str | None = None,
        length: int | None = None,
        etag: str | None = None,
    ) -> None:
        size = len(self.server.s3.body)
        self.send_response(status)
        self.send_header("ETag", etag or self.server.s3.etag)
        self.send_header("Content-Length", str(last - first + 1 if length is None else length))
        self.send_header("Content-Range", content_range or f"bytes {first}-{last}/{size}")
        self.end_headers()

    def hang_up(self, *, reset: bool = False) -> None:
        self.close_connection = True
        self.wfile.flush()
        if reset:
            # Lingering for no time makes the close a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


def truncated(after_bytes: int) -> Fault:
    """Promise the whole range, send `after_bytes`, close politely."""

    def answer(handler: Handler, first: int, last: int) -> None:
        handler.begin(first, last)
        handler.wfile.write(handler.server.s3.body[first : min(first + after_bytes, last + 1)])
        handler.hang_up()

    return answer


def reset(after_bytes: int) -> Fault:
    """As `truncated`, but the connection breaks."""

    def answer(handler: Handler, first: int, last: int) -> None:
        handler.begin(first, last)
        handler.wfile.write(handler.server.s3.body[first : min(first + after_bytes, last + 1)])
        handler.hang_up(reset=True)

    return answer


def refused(status: int, code: str) -> Fault:
    """An error of S3, as XML."""

    def answer(handler: Handler, first: int, last: int) -> None:
        body = f"<Error><Code>{code}</Code><Message>because of the test</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def no_xml(handler: Handler, first: int, last: int) -> None:
    """A proxy's error page."""
    handler.send_response(502)
    handler.send_header("Content-Length", "9")
    handler.end_headers()
    handler.wfile.write(b"<html>bad")


def whole_object(handler: Handler, first: int, last: int) -> None:
    """200 and everything, as servers do that know no ranges."""
    body = handler.server.s3.body
    handler.send_response(200)
    handler.send_header("ETag", handler.server.s3.etag)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def wrong_range(handler: Handler, first: int, last: int) -> None:
    """The bytes of another range, honestly labelled."""
    body = handler.server.s3.body
    length = last - first + 1
    handler.begin(first, last, content_range=f"bytes 0-{length - 1}/{len(body)}")
    handler.wfile.write(body[:length])


def short_range(handler: Handler, first: int, last: int) -> None:
    """One byte less than asked for."""
    handler.begin(first, last - 1)
    handler.wfile.write(handler.server.s3.body[first:last])


def other_etag(handler: Handler, first: int, last: int) -> None:
    """A server that ignores If-Match serves a new object of the same size."""
    handler.begin(first, last, etag='"another"')
    handler.wfile.write(b"x" * (last - first + 1))


def stalled(after_bytes: int) -> Fault:
    """Send `after_bytes`, then nothing until the server is released."""

    def answer(handler: Handler, first: int, last: int) -> None:
        s3 = handler.server.s3
        handler.begin(first, last)
        handler.wfile.write(s3.body[first : first + after_bytes])
        handler.wfile.flush()
        s3.stalled.set()
        s3.released.wait()
        handler.close_connection = True

    return answer
