"""The bar on a real pseudo-terminal, the lines where there is none, and how log records look."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import sys
import termios
from collections.abc import Iterator
from dataclasses import replace

import pytest

from csv2kafka import logs
from csv2kafka.metrics.progress import ProgressBar, ProgressLines, facts, percent, progress_sink
from csv2kafka.model import Sample

SAMPLE = Sample(
    rows=1_250_000,
    bytes_done=82_500_000,
    bytes_total=330_000_000,
    elapsed_s=5.0,
    rows_per_s=250_000.0,
    eta_s=15.0,
    ack_latency_s=0.01,
    checkpoints=5,
    retries=0,
)
END = replace(SAMPLE, rows=5_000_000, bytes_done=330_000_000, elapsed_s=20.0, eta_s=0.0)


def screen(raw: str, columns: int) -> list[str]:
    """What a terminal shows of the escape sequences that may come; another one fails the test."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\s\S]", raw):
        if token == "\r":
            column = 0
        elif token == "\n" or column >= columns:
            row, column = row + 1, 0
            rows += [[]] * (row == len(rows))
        if token == "\x1b[2K":
            rows[row] = []
        elif re.fullmatch(r"\x1b\[\d*A", token):
            row -= int(token[2:-1] or 1)
        elif token.startswith("\x1b"):
            assert re.fullmatch(r"\x1b\[[\d;]*m", token), f"unexpected {token!r}"
        elif token not in "\r\n":
            rows[row] += [" "] * (column + 1 - len(rows[row]))
            rows[row][column] = token
            column += 1
    return ["".join(line).rstrip() for line in rows]


class Terminal:
    """A pseudo-terminal that is this process's stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        self._master, slave = pty.openpty()
        self._file = os.fdopen(slave, "w", encoding="utf-8")
        monkeypatch.setattr(sys, "stderr", self._file)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))  # file descriptors 0 to 2, where rich asks, are still the test's
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)

    def read_until(self, text: str) -> str:
        """Wait for `text`; everything up to and with it."""
        raw = b""
        while text.encode() not in raw:
            raw += os.read(self._master, 1)
        return raw.decode()

    def close(self) -> str:
        """Everything that was written since."""
        sys.stderr.flush()
        self._file.close()
        raw = b""
        try:
            while piece := os.read(self._master, 65536):
                raw += piece
        except OSError:  # Linux's way to say that the other side is closed
            pass
        os.close(self._master)
        return raw.decode()


@pytest.fixture
def fresh_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (logs.NAME, "aiokafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def run_bar(terminal: Terminal, *samples: Sample) -> str:
    sink = progress_sink()
    assert isinstance(sink, ProgressBar)
    for sample in samples:
        sink.record(sample)
    sink.close()
    return terminal.close()


class TestBar:
    def test_everything_fits_into_80_columns(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        terminal = Terminal(monkeypatch, 80)
        sink = progress_sink()
        sink.record(SAMPLE)
        painted = screen(terminal.read_until("ETA 0:15"), 80)[0]
        sink.close()
        assert re.fullmatch(
            r" 25\.0 % [━╸╺]{8,} 1,250,000 rows · 250 k rows/s · 16\.5 MB/s · in 0:05 · ETA 0:15", painted
        )
        assert len(painted) <= 80
        terminal.close()
        assert capfd.readouterr() == ("", "")

    def test_the_last_state_stays_as_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = run_bar(Terminal(monkeypatch, 100), SAMPLE, replace(SAMPLE, elapsed_s=6.0), END)
        lines = screen(raw, 100)
        assert lines[1:] == [""]  # one line, and the cursor below it
        assert lines[0].startswith("100.0 % ━━━")
        assert lines[0].endswith("━ 5,000,000 rows · 250 k rows/s · 16.5 MB/s · in 0:20")
        assert "\x1b[?25l" not in raw  # a cursor that is never hidden need not come back after kill -9

    @pytest.mark.parametrize(
        ("columns", "tail"), [(60, "5,000,000 rows · 250 k rows/s · 16.5 MB/s"), (46, "5,000,000 rows · 250 k rows/s")]
    )
    def test_a_narrow_terminal_gets_less_but_never_two_lines(
        self, monkeypatch: pytest.MonkeyPatch, columns: int, tail: str
    ) -> None:
        lines = screen(run_bar(Terminal(monkeypatch, columns), SAMPLE, END), columns)
        assert lines[1:] == [""]
        assert lines[0].endswith(f"━ {tail}")
        assert len(lines[0]) <= columns

    def test_no_color(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal(monkeypatch, 80)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not re.search(r"\x1b\[[\d;]*3\d", run_bar(terminal, SAMPLE))

    @pytest.mark.usefixtures("fresh_logging")
    def test_log_lines_stand_above_the_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal(monkeypatch, 90)
        logs.set_up(logs.TEXT)
        sink = progress_sink()
        logging.getLogger("csv2kafka.jobs").info("created topic orders")
        sink.record(SAMPLE)
        raw = terminal.read_until("25.0 %")  # what paints it is loaded by then, however long that takes
        logging.getLogger("csv2kafka.jobs").warning("replication below 3")
        sink.record(END)
        sink.close()
        lines = screen(raw + terminal.close(), 90)
        assert lines[:2] == ["created topic orders", "warning: replication below 3"]
        assert lines[2].startswith("100.0 % ")
        assert lines[3:] == [""]

    def test_closing_without_a_sample_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run_bar(Terminal(monkeypatch, 80)) == ""

    def test_a_dumb_terminal_gets_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal(monkeypatch, 80)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(progress_sink(), ProgressLines)
        terminal.close()

    def test_a_terminal_that_stands_still_does_not_hold_the_job_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("csv2kafka.metrics.progress._CLOSE_PATIENCE_S", 0.01)
        terminal = Terminal(monkeypatch, 80)
        termios.tcflow(sys.stderr.fileno(), termios.TCOOFF)
        sink = ProgressBar()
        for number in range(100):
            sink.record(replace(SAMPLE, rows=number))
        sink.close()
        termios.tcflow(sys.stderr.fileno(), termios.TCOON)
        sink._painter.join()
        terminal.close()


class TestLines:
    @pytest.fixture
    def shown(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.INFO, "csv2kafka")
        return caplog

    def test_the_first_sample_then_every_10_s_then_the_last(self, shown: pytest.LogCaptureFixture) -> None:
        sink = ProgressLines()
        for second in range(1, 25):
            sink.record(replace(SAMPLE, elapsed_s=float(second)))
        sink.close()
        sink.close()
        assert [re.findall(r"in (0:\d\d)", message)[0] for message in shown.messages] == [
            "0:01",
            "0:11",
            "0:21",
            "0:24",
        ]
        assert "ETA" in shown.messages[0]
        assert "ETA" not in shown.messages[-1]

    def test_a_line(self, shown: pytest.LogCaptureFixture) -> None:
        ProgressLines().record(replace(SAMPLE, retries=2))
        assert shown.messages == ["25.0 %, 1,250,000 rows, 250 k rows/s, 16.5 MB/s, in 0:05, retries: 2, ETA 0:15"]

    def test_nothing_without_a_sample(self, shown: pytest.LogCaptureFixture) -> None:
        ProgressLines().close()
        assert shown.messages == []

    def test_no_terminal_means_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert isinstance(progress_sink(), ProgressLines)


class TestFacts:
    def test_before_the_first_row_nothing_is_made_up(self) -> None:
        start = replace(SAMPLE, rows=0, bytes_done=0, rows_per_s=0.0, eta_s=None)
        assert facts(start, is_last=False)["eta"] == "ETA --:--"
        assert facts(start, is_last=False)["throughput"] == "0 B/s"
        assert percent(start) == 0

    def test_a_quota_is_told_of_once_it_held_something_back(self) -> None:
        assert "throttled" not in facts(SAMPLE, is_last=False)
        assert facts(replace(SAMPLE, throttled_s=3.21), is_last=False)["throttled"] == "throttled 3.2 s"

    def test_an_empty_file_is_done(self) -> None:
        assert percent(replace(SAMPLE, bytes_done=0, bytes_total=0)) == 100


@pytest.mark.usefixtures("fresh_logging")
class TestLogs:
    def test_without_a_terminal_a_line_has_time_and_level(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(logs.TEXT)
        logging.getLogger("csv2kafka.kafka.topic").info("created")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    csv2kafka: created\n", capsys.readouterr().err)

    @pytest.mark.parametrize(
        ("quiet", "verbose", "levels"),
        [(True, False, "WE"), (False, False, "IWE"), (False, True, "DIWE")],
    )
    def test_levels(self, capsys: pytest.CaptureFixture[str], quiet: bool, verbose: bool, levels: str) -> None:
        logs.set_up(logs.TEXT, quiet=quiet, verbose=verbose)
        log = logging.getLogger("csv2kafka.jobs")
        for write, letter in ((log.debug, "D"), (log.info, "I"), (log.warning, "W"), (log.error, "E")):
            write(letter)
        assert [line[-1] for line in capsys.readouterr().err.splitlines()] == list(levels)

    def test_the_kafka_client_is_heard_once_and_never_as_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(logs.TEXT)
        client = logging.getLogger("aiokafka.client")
        for _ in range(3):
            client.error('Unable connect to "%s:%s"', "127.0.0.1", 9092)
        client.warning("something else")
        client.info("details")
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(" ", 1)[1] for line in lines] == [
            'WARNING aiokafka: Unable connect to "127.0.0.1:9092"',
            "WARNING aiokafka: something else",
        ]

    def test_what_the_kafka_client_repeats_comes_again_after_a_while(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(logs.TEXT)
        for created in (1_000.0, 1_029.0, 1_031.0):
            record = logging.makeLogRecord({"name": "aiokafka.conn", "levelno": 40, "msg": "away", "created": created})
            logging.getLogger("aiokafka.conn").handle(record)
        assert capsys.readouterr().err.count("away") == 2

    def test_signatures_and_requests_are_never_logged(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(logs.TEXT, verbose=True)
        for name in ("botocore.auth", "boto3", "urllib3", "s3transfer"):
            logging.getLogger(name).info("secret")
        logging.getLogger("aiokafka.conn").debug("secret")
        assert capsys.readouterr().err == ""

    def test_a_closed_stderr_fails_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stderr = io.StringIO()
        logs.set_up(logs.TEXT)
        monkeypatch.setattr(sys, "stderr", stderr)
        stderr.close()
        logging.getLogger("csv2kafka").warning("nobody hears this")
