"""The command in a process of its own: signals, a real terminal, pipes, and what it costs to ask for help."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Children
from tests.unit.test_progress import screen

pytestmark = pytest.mark.integration

STUB = (sys.executable, "-m", "tests.support.stub_run")
RUN = ("run", "data.csv", "orders", "-b", "b:9092")
ROOT = Path(__file__).parents[2]
# Traced, CPython 3.11 enters a function in vain, for ever, while a signal waits for the main thread.
UNTRACED = ("env", "-u", "COVERAGE_PROCESS_CONFIG")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(children: Children) -> Start:
    """`start(mode, *options)`: the command over a stub of a job, once that job runs."""

    def start(mode: str, *options: str, grace_s: str = "60") -> subprocess.Popen[str]:
        untraced = UNTRACED if mode == "hang" else ()
        process = children.start([*untraced, *STUB, mode, grace_s, *RUN, *options], cwd=ROOT)
        wait_for("running", process)
        return process

    return start


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    while text not in (line := process.stderr.readline()):
        assert line, f"no {text!r} on stderr"


class TestSignals:
    @pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_stop_leaves_a_receipt_and_its_exit_code(
        self, start: Start, number: signal.Signals, exit_code: int
    ) -> None:
        process = start("until-stopped", "--json")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == exit_code
        assert json.loads(stdout)["status"] == "stopped"
        assert "stopping: what was read is being sent and checkpointed" in stderr

    def test_a_job_that_hangs_is_given_up(self, start: Start) -> None:
        process = start("hang", "--json", grace_s="0.5")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 143
        assert json.loads(stdout)["exit_code"] == 143
        assert re.search(r"^error: did not come to an end within 0\.5 s;.*\nhint: run the same", stderr, re.MULTILINE)

    def test_ctrl_c_twice_gives_a_hanging_job_up_at_once(self, start: Start) -> None:
        process = start("hang")
        process.send_signal(signal.SIGINT)
        wait_for("stopping: ", process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert (process.returncode, stdout) == (130, "")
        assert "error: interrupted again" in stderr

    def test_a_thread_left_behind_does_not_keep_the_process(self, start: Start) -> None:
        process = start("linger", "--json", grace_s="0.5")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 143
        assert json.loads(stdout)["status"] == "stopped"  # one object, although the process had to be ended
        assert "error:" not in stderr


class TestTerminal:
    @pytest.mark.parametrize("columns", [80, 120])
    def test_the_bar_as_a_user_sees_it(self, children: Children, columns: int) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        process = subprocess.Popen(
            [*STUB, "finish", "60", *RUN, "--json"],
            cwd=ROOT,
            env=environment | {"TERM": "xterm-256color"},
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
        )
        os.close(slave)
        raw = b""
        try:
            while piece := os.read(master, 65536):
                raw += piece
        except OSError:  # Linux's way to say that the other side is closed
            pass
        stdout, _ = process.communicate(timeout=30)
        os.close(master)
        assert process.returncode == 0
        assert json.loads(stdout)["rows"] == 5_000_000
        first, bar, *rest = screen(raw.decode(), columns)
        assert first == "running"
        assert re.fullmatch(r"100\.0 % ━{8,} 5,000,000 rows · 1\.00 M rows/s · 66\.0 MB/s · in 0:05", bar)
        assert len(bar) == columns
        assert rest == [""]


class TestPipes:
    def test_without_a_terminal_stderr_has_plain_lines(self, children: Children) -> None:
        process = children.start([*STUB, "finish", "60", *RUN], cwd=ROOT)
        stdout, stderr = process.communicate(timeout=30)
        assert stdout.startswith("complete: 5,000,000 rows")
        assert "\x1b" not in stdout + stderr
        assert "\r" not in stderr
        times = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    csv2kafka: "
        assert len(re.findall(times, stderr, re.MULTILINE)) == stderr.count("\n") == 3

    @pytest.mark.parametrize(
        "command", [[sys.executable, "-m", "csv2kafka", "--version"], [*STUB, "finish", "60", *RUN]]
    )
    def test_a_reader_that_goes_away_does_not_fail_the_command(self, command: list[str]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert done.returncode == 0
        assert "BrokenPipe" not in done.stderr


class TestStart:
    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
    def test_help_loads_nothing_heavy(self, arguments: list[str]) -> None:
        code = (
            "import sys; from csv2kafka.cli import app\n"
            f"try: app({arguments!r})\n"
            "except SystemExit as end: assert not end.code\n"
            "heavy = {'numba', 'numpy', 'boto3', 'botocore', 'aiokafka', 'pydantic_settings', 'rich', 'asyncio'}\n"
            "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"
        assert done.stdout
