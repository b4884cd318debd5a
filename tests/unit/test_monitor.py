"""The metrics port over HTTP: what it answers in each state, and that no asker can hold a run up."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import math
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from csv2kafka import errors
from csv2kafka.metrics import monitor as module
from csv2kafka.metrics.monitor import Monitor
from csv2kafka.model import Position, Sample
from tests.support.until import until

SAMPLE = Sample(
    rows=1_000,
    bytes_done=4_000,
    bytes_total=16_000,
    elapsed_s=2.0,
    rows_per_s=500.0,
    eta_s=6.0,
    ack_latency_s=0.02,
    checkpoints=2,
    retries=0,
    ack_latencies_s=(0.01, 0.3, 0.02),
    checkpoint_age_s=0.5,
)
BAD_ROW = errors.BadRow(Position(4, 90), 120, "has 3 fields, not 5", hint="mend it")


class Reply:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.text = answer.status, answer.headers, answer.read().decode()


def ask(monitor: Monitor, path: str, method: str = "GET") -> Reply:
    place = urlsplit(monitor.url)
    with contextlib.closing(http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)) as connection:
        connection.request(method, path)
        return Reply(connection.getresponse())


def connection_to(monitor: Monitor) -> socket.socket:
    place = urlsplit(monitor.url)
    return socket.create_connection((str(place.hostname), int(str(place.port))))


def status(monitor: Monitor) -> dict[str, Any]:
    return json.loads(ask(monitor, "/status.json").text)  # type: ignore[no-any-return]


def a_monitor(**changes: Any) -> Monitor:
    facts: dict[str, Any] = {"job_id": "nightly", "source": "s3://bucket/orders.csv", "topic": "orders"}
    return Monitor("127.0.0.1", 0, **{**facts, **changes})


@pytest.fixture
def monitor() -> Monitor:
    return a_monitor()


class TestStates:
    def test_before_the_first_sample(self, monitor: Monitor) -> None:
        health = ask(monitor, "/healthz")
        assert (health.status, health.text) == (200, "starting\n")
        assert status(monitor) == {
            "job": "nightly",
            "source": "s3://bucket/orders.csv",
            "topic": "orders",
            "state": "starting",
            "error": None,
            "sample": None,
        }
        assert "csv2kafka_rows_sent_total 0.0" in ask(monitor, "/metrics").text

    def test_a_running_job(self) -> None:
        now_s = 100.0
        monitor = a_monitor(clock_s=lambda: now_s)
        monitor.record(SAMPLE)
        now_s += 1.5

        found = status(monitor)

        assert ask(monitor, "/healthz").status == 200
        assert (found["state"], found["sample_age_s"]) == ("running", 1.5)
        figures = found["sample"]
        assert (figures["rows"], figures["progress_ratio"], figures["rows_expected"]) == (1_000, 0.25, 4_000)
        assert (figures["ack_latency_s"], figures["slowest_ack_s"]) == (0.02, 0.3)
        assert found["history"] == [[0.0, 0], [2.0, 1_000]]

    @pytest.mark.parametrize("outcome", ["complete", "already complete", "stopped"])
    def test_the_last_sample_stays(self, monitor: Monitor, outcome: str) -> None:
        monitor.record(replace(SAMPLE, rows=4_000, bytes_done=16_000))
        monitor.close()
        monitor.ended(outcome)

        assert (status(monitor)["state"], status(monitor)["sample"]["rows"]) == (outcome, 4_000)
        assert ask(monitor, "/healthz").status == 200
        assert "csv2kafka_rows_sent_total 4000.0" in ask(monitor, "/metrics").text

    def test_a_failure(self, monitor: Monitor) -> None:
        monitor.record(SAMPLE)
        monitor.failed(BAD_ROW)

        health = ask(monitor, "/healthz")
        assert (health.status, health.text) == (503, "failed\n")
        assert status(monitor)["error"] == {"kind": "bad_data", "message": BAD_ROW.message, "hint": "mend it"}
        assert 'csv2kafka_errors_total{kind="bad_data"} 1.0' in ask(monitor, "/metrics").text

    def test_a_bug_keeps_to_itself_what_it_says(self, monitor: Monitor) -> None:
        monitor.failed(KeyError("hunter2"))

        assert ask(monitor, "/healthz").status == 503
        assert status(monitor)["error"]["kind"] == "bug"
        assert "hunter2" not in ask(monitor, "/status.json").text + ask(monitor, "/metrics").text

    def test_a_limit_of_the_machine_is_no_bug(self, monitor: Monitor) -> None:
        monitor.failed(MemoryError())
        assert status(monitor)["error"]["kind"] == "machine"

    def test_a_source_whose_name_is_no_text(self) -> None:
        monitor = a_monitor(source='/data/\udcff"\n<b>.csv')
        assert status(monitor)["source"] == '/data/\udcff"\n<b>.csv'
        assert r'source="/data/\\udcff\"\n<b>.csv"' in ask(monitor, "/metrics").text


class TestTheEnd:
    def test_a_page_that_is_open_sees_it(self, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_FAREWELL_S", 60.0)
        monkeypatch.setattr(module, "_LOOKING_S", math.inf)
        monitor.record(SAMPLE)
        status(monitor)
        process = threading.Thread(target=monitor.ended, args=("complete",))
        process.start()
        until(lambda: ask(monitor, "/healthz").text == "complete\n", "the load is over")
        process.join(0.2)
        assert process.is_alive(), "gone before the page asked again"
        assert status(monitor)["state"] == "complete"
        process.join(30)
        assert not process.is_alive()

    def test_a_page_that_was_closed_meanwhile_is_not_waited_for(
        self, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_FAREWELL_S", 0.01)
        monkeypatch.setattr(module, "_LOOKING_S", math.inf)
        status(monitor)
        monitor.failed(BAD_ROW)

    def test_without_a_page_nobody_waits(self, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_FAREWELL_S", math.inf)  # which no Event bears
        for path in ("/metrics", "/healthz", "/"):
            ask(monitor, path)
        monitor.ended("complete")


class TestAnswers:
    def test_nothing_else_is_there(self, monitor: Monitor) -> None:
        assert ask(monitor, "/metrics?x=1").status == 200
        assert ask(monitor, "/page.html").status == 404
        assert ask(monitor, "/../model.py").status == 404
        assert ask(monitor, "/healthz", "POST").status == 501
        assert ask(monitor, "/healthz", "HEAD").text == ""

    def test_prometheus_learns_the_format(self, monitor: Monitor) -> None:
        assert ask(monitor, "/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")

    def test_nothing_is_kept_or_guessed(self, monitor: Monitor) -> None:
        for path in ("/", "/status.json", "/metrics", "/healthz", "/nothing"):
            headers = ask(monitor, path).headers
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]


class TestPage:
    @pytest.fixture
    def page(self, monitor: Monitor) -> Reply:
        return ask(monitor, "/")

    def test_the_policy_allows_its_own_script_and_style_alone(self, page: Reply) -> None:
        policy = page.headers["Content-Security-Policy"]
        for tag in ("script", "style"):
            (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "unsafe" not in policy
        assert " style=" not in page.text
        assert not re.search(r"\son\w+=", page.text)

    def test_it_needs_nothing_from_elsewhere(self, page: Reply) -> None:
        assert not re.search(r"https?:|url\(|@import|import\(", page.text)
        assert set(re.findall(r'(?:href|src)="([^"]*)"', page.text)) == {
            "data:,",
            "metrics",
            "healthz",
            "status.json",
        }

    def test_what_it_shows_is_never_markup(self, page: Reply) -> None:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", page.text)

    def test_the_script_finds_all_that_it_fills(self, page: Reply) -> None:
        wanted = set(re.findall(r'\b(?:say|at)\("([^"]+)"', page.text))
        assert len(wanted) > 20
        assert wanted <= set(re.findall(r' id="([^"]+)"', page.text))


class TestPort:
    def test_one_that_is_taken(self, monitor: Monitor) -> None:
        port = int(str(urlsplit(monitor.url).port))
        with pytest.raises(errors.ConfigError, match=rf"127\.0\.0\.1:{port}: Address already in use") as refused:
            Monitor("127.0.0.1", port, job_id="other", source="x", topic="y")
        assert refused.value.exit_code == 78
        assert "--metrics-port" in refused.value.hint

    @pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
    def test_an_address_that_is_not_this_machines(self, host: str) -> None:
        with pytest.raises(errors.ConfigError, match=f"metrics cannot be shown at {host}:0: "):
            Monitor(host, 0, job_id="job", source="x", topic="y")

    def test_ipv6(self) -> None:
        try:
            monitor = Monitor("::1", 0, job_id="job", source="x", topic="y")
        except errors.ConfigError:
            pytest.skip("this machine has no IPv6")
        assert monitor.url.startswith("http://[::1]:")
        assert ask(monitor, "/healthz").status == 200


class TestAskersWhoDawdle:
    @pytest.fixture
    def silent(self, monitor: Monitor) -> Iterator[None]:
        """More connections that say nothing than there are threads to listen to them."""
        with contextlib.ExitStack() as held:
            for _ in range(module._THREADS + 1):
                held.enter_context(connection_to(monitor))
            yield

    @pytest.mark.usefixtures("silent")
    def test_they_do_not_hold_the_run_up(self, monitor: Monitor) -> None:
        for number in range(1_000):
            monitor.record(replace(SAMPLE, elapsed_s=float(number)))
        monitor.ended("complete")

    @pytest.fixture
    def impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert module._Handler.timeout == module._ASKER_PATIENCE_S
        monkeypatch.setattr(module._Handler, "timeout", 0.05)

    @pytest.mark.usefixtures("impatience", "silent")
    def test_they_are_given_up(self, monitor: Monitor) -> None:
        assert ask(monitor, "/healthz").status == 200

    def test_those_who_leave_before_the_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(module, "_THREADS", 1)  # which has been with all of them when the last one is answered
        monitor = a_monitor()
        for _ in range(20):
            with connection_to(monitor) as asker:
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                asker.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert ask(monitor, "/healthz").status == 200
        assert capsys.readouterr() == ("", "")


def test_the_history_of_a_long_run_stays_small_and_whole(monitor: Monitor) -> None:
    for second in range(1, 100_001):
        monitor._history.add(replace(SAMPLE, elapsed_s=float(second), rows=10 * second))

    points = monitor._history.points
    assert 100 <= len(points) <= 240
    assert points[0] == (0.0, 0)
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(points)]
    assert points[-1][0] > 100_000 - 2 * max(gaps)
    assert max(gaps) < 3 * 100_000 / len(points)
    assert all(rows == 10 * elapsed_s for elapsed_s, rows in points)
