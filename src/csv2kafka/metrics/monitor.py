"""The metrics port of a run: a page for people, /metrics for Prometheus, /healthz for whoever restarts processes.

It answers from before the load begins until the process is gone, and only ever reads. The run hands over a sample
about once a second and waits for nobody: a few threads of their own answer, slow or silent askers keep those waiting
and nothing else. Once the load is over, a page that is open gets a moment to see how it ended. No figure is measured
here; Prometheus's format is prometheus.py's business.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from csv2kafka.errors import ConfigError, machine_limit, operating_error
from csv2kafka.metrics import progress_ratio, rows_expected
from csv2kafka.metrics.prometheus import CONTENT_TYPE, Exposition
from csv2kafka.model import Sample

_LOG = logging.getLogger(__name__)

_THREADS = 3
_ASKER_PATIENCE_S = 5.0
_MOST_POINTS = 240
_LOOKING_S = 2.0  # a page asks once a second
_FAREWELL_S = 1.5
_STATUS = "/status.json"

Answer = tuple[HTTPStatus, str, bytes]


class Monitor:
    """A sink that can be asked. Listens once the constructor returns; `close` changes nothing, the process's end does.

    host, port: where to listen; port 0 takes a free one, and `url` names it.
    job_id, source, topic: what is loaded, and where to; no secrets.
    Raises ConfigError where that place cannot be had, Retryable where the machine has no file or thread left.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        job_id: str,
        source: str,
        topic: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = {"job": job_id, "source": source, "topic": topic}
        self._clock_s = clock_s
        self._exposition = Exposition(job_id=job_id, source=source, topic=topic, clock_s=clock_s)
        self._lock = threading.Lock()  # held for moments only
        self._state = "starting"
        self._error: dict[str, str] | None = None
        self._sample: Sample | None = None
        self._sampled_s = 0.0
        self._history = _History()
        self._asked_s = -math.inf  # when a page last wanted the status
        self._has_told_the_end = threading.Event()
        self._details: Callable[[], dict[str, Any]] | None = None
        self._page = resources.files(__package__).joinpath("page.html").read_bytes()
        self._answers = {
            "/": self._show_page,
            _STATUS: self._show_status,
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, self._exposition.text()),
            "/healthz": self._show_health,
        }
        self.security_policy = _policy(self._page.decode())
        server = _listen(host, port, self)
        shown_host = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown_host}:{server.server_address[1]}/"
        for number in range(_THREADS):
            # Daemons: an asker must not keep the process from ending.
            threading.Thread(target=_serve, args=(server,), name=f"monitor-{number}", daemon=True).start()

    # The run's side

    def record(self, sample: Sample) -> None:
        self._exposition.record(sample)
        with self._lock:
            self._state = "running"
            self._sample, self._sampled_s = sample, self._clock_s()
            self._history.add(sample)

    def close(self) -> None:
        """The last sample stays to be seen."""

    def attach(self, details: Callable[[], dict[str, Any]]) -> None:
        """Have `details` asked for what page and metrics are to say of a fleet, whenever somebody asks."""
        self._details = details
        self._exposition.attach(details)

    def ended(self, status: str) -> None:
        """The load returned; `status` is its receipt's."""
        with self._lock:
            self._state = status
        self._take_leave()

    def failed(self, error: BaseException) -> None:
        """The load raised this."""
        known = operating_error(error)
        # What a bug says may be anything; the process's own output has it.
        told = (known.kind, known.message, known.hint) if known else ("bug", "this is a bug: see the log", "")
        self._exposition.count_error(told[0])
        with self._lock:
            self._state, self._error = "failed", dict(zip(("kind", "message", "hint"), told, strict=True))
        self._take_leave()

    def _take_leave(self) -> None:
        if self._clock_s() - self._asked_s < _LOOKING_S:
            self._has_told_the_end.wait(_FAREWELL_S)

    # The askers' side

    def answer(self, path: str) -> Answer:
        if path == _STATUS:
            self._asked_s = self._clock_s()
        show = self._answers.get(path)
        return show() if show else (HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"not found\n")

    @property
    def is_over(self) -> bool:
        return self._state not in ("starting", "running")

    def answered(self, path: str, *, was_over: bool) -> None:
        """The answer is on its way, and the load was over before it was made, or not."""
        if path == _STATUS and was_over:
            self._has_told_the_end.set()

    def _show_page(self) -> Answer:
        return HTTPStatus.OK, "text/html; charset=utf-8", self._page

    def _show_health(self) -> Answer:
        # No run waits for ever: what it waits for is refused or given up in time, so one that did not fail is well.
        status = HTTPStatus.SERVICE_UNAVAILABLE if self._state == "failed" else HTTPStatus.OK
        return status, "text/plain; charset=utf-8", f"{self._state}\n".encode()

    def _show_status(self) -> Answer:
        return HTTPStatus.OK, "application/json", json.dumps(self._status()).encode()

    def _status(self) -> dict[str, Any]:
        with self._lock:
            sample = self._sample
            status: dict[str, Any] = {**self._job, "state": self._state, "error": self._error, "sample": None}
            history, sample_age_s = self._history.points, self._clock_s() - self._sampled_s
        if self._details is not None:
            status["fleet"] = self._details()
        if sample is None:
            return status
        figures = asdict(sample)
        latencies_s = figures.pop("ack_latencies_s")
        figures["slowest_ack_s"] = max(latencies_s, default=None)
        figures["progress_ratio"] = progress_ratio(sample)
        figures["rows_expected"] = rows_expected(sample)
        return {**status, "sample": figures, "sample_age_s": sample_age_s, "history": history}


class _History:
    """(elapsed seconds, rows) of a run from its beginning on, as many as a small chart can show."""

    def __init__(self) -> None:
        self.points: tuple[tuple[float, int], ...] = ()
        self._step_s = 0.0

    def add(self, sample: Sample) -> None:
        begun = self.points or ((0.0, sample.rows_before),)
        if sample.elapsed_s - begun[-1][0] >= self._step_s:
            begun = (*begun, (round(sample.elapsed_s, 3), sample.rows))
        if len(begun) > _MOST_POINTS:
            begun = begun[::2]
            self._step_s = begun[-1][0] / len(begun)
        self.points = begun


class _Server(TCPServer):
    """Each of several threads takes one request after the other from the same socket."""

    allow_reuse_address = True  # a port that the run before used a moment ago
    request_queue_size = 16

    def __init__(self, address: tuple[Any, ...], family: socket.AddressFamily, monitor: Monitor) -> None:
        self.address_family = family
        self.monitor = monitor
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        _LOG.debug("an asker at the metrics port went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _ASKER_PATIENCE_S
    server_version, sys_version = "csv2kafka", ""

    def do_GET(self) -> None:
        monitor = self.server.monitor
        path = urlsplit(self.path).path
        was_over = monitor.is_over
        status, content_type, body = monitor.answer(path)
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": monitor.security_policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        monitor.answered(path, was_over=was_over)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Who asks is no news."""


def _listen(host: str, port: int, monitor: Monitor) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _Server(address, family, monitor)
    except OSError as error:
        raise machine_limit(error) or ConfigError(
            f"metrics cannot be shown at {host}:{port}: {error.strerror or error}",
            hint="Give another --metrics-port (0 takes a free one) or --metrics-host, or end what listens there.",
        ) from error


def _serve(server: _Server) -> None:
    while True:
        server.handle_request()


def _policy(page: str) -> str:
    """A Content-Security-Policy under which nothing but the page's own style and script counts."""

    def digest(tag: str) -> str:
        found = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        text = found[1] if found else ""
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest('style')}; script-src {digest('script')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
