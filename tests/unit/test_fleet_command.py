"""The command line of a fleet as far as it needs no broker: help, and what is refused before anything is asked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from csv2kafka.cli import app
from tests.support.environment import clear_options
from tests.support.processes import Children

# Without Dask, and without anything that a command line could find on this machine.
NO_DASK = "import sys; sys.modules.update(dask=None, distributed=None); from csv2kafka.cli import main; main()"


@pytest.fixture(autouse=True)
def as_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    clear_options(monkeypatch)
    monkeypatch.setenv("CSV2KAFKA_LOG_FORMAT", "text")
    monkeypatch.delenv("AWS_BATCH_JOB_ARRAY_INDEX", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("csv2kafka").setLevel(logging.NOTSET)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="csv2kafka")


def fleet(*arguments: str) -> Result:
    return call("fleet", "in/", "orders", "-b", "127.0.0.1:1", *arguments)


def test_help_names_every_option_of_a_fleets_own() -> None:
    text = call("fleet", "--help").stdout
    for option in ("scheduler", "local", "name", "placement", "split", "per-broker", "dry-run", "freeze", "index"):
        assert re.search(rf"^ +--{option}\b", text, re.MULTILINE), option
    assert "AWS_BATCH_JOB_ARRAY_INDEX" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", ["status", "reset"])
def test_help_of_what_takes_a_fleet_as_well(command: str) -> None:
    assert re.search(r"^ +--fleet NAME +A whole fleet", call(command, "--help").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message", "hint"),
    [
        (("--scheduler", "tcp://h:8786", "--local", "2"), 2, "contradict each other", "keep one of them"),
        (("--placement", "random"), 2, "'random' is not among round-robin, hash, single", "see csv2kafka fleet --help"),
        (("--split", "1"), 2, "Invalid value for '--split'", "see csv2kafka fleet --help"),
        (("--local", "0"), 2, "Invalid value for '--local'", "see csv2kafka fleet --help"),
        (("--per-broker", "0"), 2, "Invalid value for '--per-broker'", "see csv2kafka fleet --help"),
        (("--index", "-1"), 2, "Invalid value for '--index'", "see csv2kafka fleet --help"),
        (("--partition", "3"), 2, "No such option", "see csv2kafka fleet --help"),
        (("--name", "a\tb"), 2, "printable characters", "see csv2kafka"),
        (("--delimiter", "long"), 2, "--delimiter", "see csv2kafka"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], exit_code: int, message: str, hint: str) -> None:
    result = fleet(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert re.search(rf"error: .*{re.escape(message)}.*\nhint: {re.escape(hint)}", result.stderr), result.stderr


HOW = pytest.mark.parametrize("how", [(), ("--dry-run",), ("--freeze",), ("--index", "0")], ids=" ".join)


@HOW
def test_bad_rows_of_many_jobs_go_to_no_one_file(how: tuple[str, ...], tmp_path: Path) -> None:
    result = fleet("--bad-rows", "quarantine", "--bad-rows-to", f"{tmp_path}/bad.csv", *how)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: --bad-rows-to names one file for many jobs\nhint: Name a topic.\n"


@HOW
def test_workers_elsewhere_need_a_store_that_they_share(how: tuple[str, ...]) -> None:
    result = fleet("--scheduler", "tcp://127.0.0.1:1", *how)
    assert (result.exit_code, result.stdout) == (78, "")
    assert "error: the default checkpoint file is this machine's, and the workers may be on others" in result.stderr
    assert "hint: Keep checkpoints in a table: --checkpoint dynamodb://TABLE." in result.stderr


def test_there_is_no_file(tmp_path: Path) -> None:
    checkpoint = ("--checkpoint", f"sqlite:///{tmp_path / 'c.db'}")
    result = call("fleet", f"{tmp_path}/*.csv", "orders", "-b", "127.0.0.1:1", *checkpoint, "--dry-run")
    assert (result.exit_code, result.stdout) == (66, "")
    assert f"error: there is no file at {tmp_path}/*.csv\nhint: End a folder or prefix" in result.stderr


@pytest.mark.parametrize("how", [(), ("--scheduler", "tcp://127.0.0.1:1"), ("--split", "2")], ids=" ".join)
def test_dask_is_not_installed(children: Children, tmp_path: Path, how: tuple[str, ...]) -> None:
    checkpoint = ("--checkpoint", f"sqlite:///{tmp_path / 'c.db'}")
    process = children.start(
        [sys.executable, "-c", NO_DASK, "fleet", str(tmp_path), "orders", "-b", "127.0.0.1:1", *checkpoint, *how]
    )
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (78, "")
    assert stderr == (
        "error: a fleet runs on Dask, which is not installed (dask)\nhint: pip install 'csv2kafka[fleet]'\n"
    )


def test_the_standing_of_a_fleet_needs_no_dask(children: Children, tmp_path: Path) -> None:
    process = children.start(
        [
            sys.executable,
            "-c",
            NO_DASK,
            "status",
            "--fleet",
            "nightly",
            "--checkpoint",
            f"sqlite:///{tmp_path / 'c.db'}",
        ]
    )
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr.splitlines()[0]) == (78, "error: there is no fleet nightly")
