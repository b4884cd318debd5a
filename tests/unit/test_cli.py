"""The command line up to the job: arguments, output, exit codes. The job itself is a stand-in."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner, Result

import csv2kafka
from csv2kafka import errors
from csv2kafka.cli import app
from csv2kafka.logs import styled
from csv2kafka.metrics.progress import ProgressLines
from csv2kafka.model import Position
from csv2kafka.settings import RunSettings
from tests.support.environment import clear_options
from tests.unit.test_receipt import COMPLETE

RUN = ("run", "data.csv", "orders", "-b", "b:9092")


class Jobs(ModuleType):
    """In place of csv2kafka.jobs: remembers what it was called with, and does as told."""

    def __init__(self) -> None:
        super().__init__("csv2kafka.jobs")
        self.outcome: Any = COMPLETE
        self.settings: RunSettings
        self.sinks: list[Any]
        self.was_reset: tuple[Any, ...] = ()

    def run(self, settings: RunSettings, *, sinks: list[Any], stop: Any, notify: Any) -> Any:
        assert not stop.is_set()
        self.settings, self.sinks = settings, sinks
        notify("creating topic orders")
        logging.getLogger("csv2kafka.jobs").warning("replication below 3")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def reset(self, checkpoint_url: str | None, job_id: str, region: str | None, profile: str | None) -> str:
        self.was_reset = (checkpoint_url, job_id, region, profile)
        return f"job {job_id} is forgotten"


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    clear_options(monkeypatch)
    monkeypatch.setenv("CSV2KAFKA_LOG_FORMAT", "text")
    fake = Jobs()
    monkeypatch.setitem(sys.modules, "csv2kafka.jobs", fake)
    monkeypatch.setattr(csv2kafka, "jobs", fake, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield fake
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("csv2kafka").setLevel(logging.NOTSET)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="csv2kafka")


class TestRun:
    def test_stdout_has_the_receipt_and_nothing_else(self) -> None:
        result = call(*RUN)
        assert result.exit_code == 0
        assert result.stdout.startswith("complete: 5,000,000 rows of s3://bucket/orders.csv in orders\n\n  job  ")
        assert "creating topic orders" in result.stderr
        assert "WARNING csv2kafka: replication below 3" in result.stderr

    def test_json_is_one_object(self) -> None:
        result = call(*RUN, "--json")
        assert json.loads(result.stdout)["source"]["size_bytes"] == 330_000_000
        assert result.stdout.count("\n") == 1

    def test_every_flag_arrives(self, jobs: Jobs, tmp_path: Path) -> None:
        properties = tmp_path / "client.properties"
        properties.write_text("sasl.mechanism=PLAIN\nsasl.username=ann\nsasl.password=hunter2\n")
        config = tmp_path / "options.toml"
        config.write_text('metrics-namespace = "Loads"')
        result = call(
            *("run", "s3://b/k", "orders", "--brokers", "b1:1,b2:2", "--job-id", "j", "--checkpoint", "dynamodb://t"),
            *("--partition", "3", "--compression", "zstd", "--checkpoint-interval", "500", "--delimiter", ";"),
            *("--encoding", "Windows_1252", "--decompress", "gzip", "--quote", "'", "--escape", "\\", "--no-header"),
            *("--columns", 'a,"b,c"', "--skip-lines", "2", "--null-value", "", "--schema", "s.json", "--format", "csv"),
            *("--key", "a", "--key", "b,c", "--headers", "provenance", "--header", "x=1", "--header", "y=a=b"),
            *("--bad-rows", "quarantine", "--bad-rows-to", "./bad", "--max-bad-rows", "1%", "--max-bytes-per-s", "9"),
            *("--metrics-port", "0", "--metrics-host", "localhost"),
            *("--no-create-topic", "--delivery", "lease-only", "--accept-new-producer-id"),
            *("--region", "eu-west-1", "--profile", "ops"),
            *("-X", "security.protocol=SASL_PLAINTEXT", "-X", "client.id = me"),
            *("--command-config", str(properties), "--config", str(config), "--quiet"),
        )
        assert result.exit_code == 0, result.output
        assert jobs.settings.model_dump(exclude={"kafka"}) == {
            "source": "s3://b/k",
            "topic": "orders",
            "job_id": "j",
            "checkpoint_url": "dynamodb://t",
            "partition": 3,
            "compression": "zstd",
            "checkpoint_interval_rows": 500,
            "create_topic": False,
            "delivery": "lease-only",
            "accept_new_producer_id": True,
            "delimiter": ";",
            "encoding": "windows-1252",
            "decompress": "gzip",
            "quote": "'",
            "escape": "\\",
            "no_header": True,
            "columns": ("a", "b,c"),
            "skip_lines": 2,
            "null_value": "",
            "schema_file": Path("s.json"),
            "value_format": "csv",
            "key": ("a", "b,c"),
            "headers": "provenance",
            "header": ("x=1", "y=a=b"),
            "bad_rows": "quarantine",
            "bad_rows_to": "./bad",
            "max_bad_rows": "1%",
            "region": "eu-west-1",
            "profile": "ops",
            "log_format": "text",
            "max_bytes_per_s": 9,
            "enable_metrics": False,
            "metrics_namespace": "Loads",
            "metrics_port": 0,
            "metrics_host": "localhost",
        }
        kafka = jobs.settings.kafka
        assert (kafka.bootstrap, kafka.client_id, kafka.sasl_username) == ("b1:1,b2:2", "me", "ann")

    def test_source_and_topic_may_come_from_the_environment(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("S3_BUCKET", "b"), ("S3_KEY", "k"), ("KAFKA_TOPIC", "t")):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "b:1")
        monkeypatch.setenv("CSV2KAFKA_ACCEPT_NEW_PRODUCER_ID", "true")  # an absent flag does not take it back
        assert call("run").exit_code == 0
        assert (jobs.settings.source, jobs.settings.topic) == ("s3://b/k", "t")
        assert jobs.settings.accept_new_producer_id

    def test_progress_goes_with_the_job_unless_quiet(self, jobs: Jobs) -> None:
        call(*RUN)
        assert [type(sink) for sink in jobs.sinks] == [ProgressLines]
        result = call(*RUN, "-q")
        assert jobs.sinks == []
        assert "creating topic" not in result.stderr
        assert "replication below 3" in result.stderr

    def test_the_metrics_port_answers_behind_the_end(self, jobs: Jobs) -> None:
        result = call(*RUN, "-q", "--metrics-port", "0", "--job-id", "nightly")
        (monitor,) = jobs.sinks
        assert result.exit_code == 0
        with urlopen(f"{monitor.url}status.json") as answer:
            found = json.load(answer)
        assert {name: found[name] for name in ("job", "source", "topic", "state")} == {
            "job": "nightly",
            "source": "data.csv",
            "topic": "orders",
            "state": "complete",
        }

    def test_the_metrics_port_tells_of_a_failure(self, jobs: Jobs) -> None:
        jobs.outcome = errors.TopicError("no such topic", hint="create it")
        result = call(*RUN, "--metrics-port", "0")
        assert result.exit_code == 78
        assert f"watch this run at {jobs.sinks[-1].url} " in result.stderr
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{jobs.sinks[-1].url}healthz")
        assert refused.value.code == 503

    def test_a_metrics_port_that_is_taken_ends_it_before_it_begins(self, jobs: Jobs) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            result = call(*RUN, "--metrics-port", str(other.getsockname()[1]))
        assert result.exit_code == 78
        assert "Address already in use\nhint: Give another --metrics-port" in result.stderr
        assert not hasattr(jobs, "settings")

    def test_quiet_and_verbose(self) -> None:
        assert call(*RUN, "-q", "-v").exit_code == 2

    def test_a_job_that_was_complete_already(self, jobs: Jobs) -> None:
        jobs.outcome = replace(COMPLETE, status="already complete", rows_this_run=0)
        result = call(*RUN)
        assert result.exit_code == 0
        assert result.stdout.startswith("already complete: ")


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "exit_code"),
        [
            (errors.UsageError("m", hint="h"), 2),
            (errors.BadRow(Position(4, 90), 120, "has 3 fields, not 5", hint="h"), 65),
            (errors.SourceChanged("m", hint="h"), 66),
            (errors.JobHeld("m", hint="h"), 75),
            (errors.Denied("m", hint="h"), 77),
            (errors.CheckpointMissing("m", hint="h"), 78),
        ],
    )
    def test_message_hint_and_exit_code(self, jobs: Jobs, error: errors.Csv2KafkaError, exit_code: int) -> None:
        jobs.outcome = error
        result = call(*RUN, "-q")
        assert result.exit_code == exit_code
        assert result.stdout == ""
        assert result.stderr.endswith(f"error: {error.message}\nhint: h\n")
        assert "Traceback" not in result.stderr
        assert "\x1b" not in result.stderr

    def test_as_json_there_is_one_object_too(self, jobs: Jobs) -> None:
        jobs.outcome = errors.TopicError("no such topic", hint="create it")
        result = call(*RUN, "--json")
        assert json.loads(result.stdout) == {
            "status": "failed",
            "error": "no such topic",
            "hint": "create it",
            "exit_code": 78,
        }
        assert "error: no such topic\nhint: create it\n" in result.stderr

    def test_anything_else_is_a_bug_and_says_so(self, jobs: Jobs) -> None:
        jobs.outcome = KeyError("surprise")
        result = call(*RUN, "--json")
        assert result.exit_code == 70
        assert "error: this is a bug: KeyError: 'surprise'\nhint: please report it" in result.stderr
        assert result.stderr.count("Traceback") == 1
        assert json.loads(result.stdout)["exit_code"] == 70

    def test_ctrl_c_outside_a_job(self, jobs: Jobs) -> None:
        jobs.outcome = KeyboardInterrupt()
        result = call(*RUN)
        assert result.exit_code == 130
        assert "Traceback" not in result.output

    def test_colour_on_a_terminal_only_and_not_with_no_color(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal:
            def isatty(self) -> bool:
                return True

        stream: Any = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert styled("error:", "31", stream) == "\x1b[31merror:\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert styled("error:", "31", stream) == "error:"
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert styled("error:", "31", stream) == "error:"


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message", "hint"),
        [
            ((), "no command given", "see csv2kafka --help"),
            (("rn",), "No such command 'rn'", "see csv2kafka --help"),
            (("run",), "missing: SOURCE, TOPIC, -b HOST:PORT", "csv2kafka run SOURCE TOPIC -b HOST:PORT"),
            ((*RUN, "surplus"), "unexpected extra argument", "see csv2kafka run --help"),
            ((*RUN, "--partition", "x"), "Invalid value for '--partition'", "see csv2kafka run --help"),
            ((*RUN, "--partition", "-1"), "Invalid value for '--partition'", "see csv2kafka run --help"),
            ((*RUN, "--brokrs", "b:1"), "--brokrs", "see csv2kafka run --help"),
            ((*RUN, "-X", "nonsense"), "-X takes key=value", "for example: -X security.protocol"),
            ((*RUN, "-X", "sasl.mechanisms=PLAIN"), "-X sasl.mechanisms", "did you mean sasl.mechanism?"),
            (("reset",), "Missing argument", "see csv2kafka reset --help"),
            (("broker", "--port", "0"), "Invalid value for '--port'", "see csv2kafka broker --help"),
        ],
    )
    def test_exit_code_2_with_a_hint(self, arguments: tuple[str, ...], message: str, hint: str) -> None:
        result = call(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert re.fullmatch(r"error: .*\nhint: .*\n", result.stderr)
        assert message in result.stderr
        assert f"hint: {hint}" in result.stderr

    def test_the_parsers_errors_are_json_too(self) -> None:
        assert json.loads(call(*RUN, "surplus", "--json").stdout)["exit_code"] == 2

    @pytest.mark.parametrize(
        "secret",
        [
            ("-X", "sasl.password=hunter2"),
            ("-X", "sasl.jaas.config=a.PlainLoginModule required username='ann' password='hunter2';"),
            ("-X", "ssl.key.password = hunter2"),
            ("-X", "ssl.keystore.password=hunter2"),
            ("-X", "sasl.password", "hunter2", "surplus", "surplus"),
            ("-X", "sasl.pasword=hunter2"),
            ("-X", "hunter2"),
        ],
    )
    def test_a_secret_in_a_flag_is_refused_and_not_repeated(self, secret: tuple[str, ...]) -> None:
        result = call("run", *secret, "--json")
        assert result.exit_code == 2
        assert "hunter2" not in result.output

    def test_the_refusal_says_where_secrets_belong(self) -> None:
        stderr = call(*RUN, "-X", "sasl.password=hunter2").stderr
        assert "--command-config" in stderr
        assert "KAFKA_SASL_PASSWORD" in stderr

    def test_help_names_every_variable(self) -> None:
        text = call("run", "--help").stdout
        for variable in ("S3_BUCKET", "S3_KEY", "KAFKA_TOPIC", "KAFKA_BOOTSTRAP_SERVERS", "DYNAMODB_TABLE", "JOB_ID"):
            assert variable in text
        for field in RunSettings.model_fields.keys() - {"kafka", "topic", "job_id", "enable_metrics"}:
            name = {
                "checkpoint_url": "CHECKPOINT",
                "checkpoint_interval_rows": "CHECKPOINT_INTERVAL",
                "value_format": "FORMAT",
                "schema_file": "SCHEMA",
            }.get(field)
            variable = f"CSV2KAFKA_{name or field.upper()}"
            assert variable in text or field == "metrics_namespace", variable
        assert "ENABLE_METRICS" in text
        assert max(map(len, text.splitlines())) <= 80


class TestOtherCommands:
    def test_reset(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DYNAMODB_TABLE", "t")
        result = call("reset", "nightly", "--region", "eu-west-1")
        assert (result.exit_code, result.stdout) == (0, "job nightly is forgotten\n")
        assert jobs.was_reset == ("dynamodb://t", "nightly", "eu-west-1", None)

    def test_broker(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        calls = []
        monkeypatch.setattr("csv2kafka.devbroker.serve", lambda port, data_dir: calls.append((port, data_dir)))
        result = call("broker", "--port", "9092", "--data-dir", str(tmp_path))
        assert (result.exit_code, result.stdout) == (0, "")
        assert calls == [(9092, tmp_path)]

    def test_version(self) -> None:
        result = call("--version")
        assert (result.exit_code, result.stdout) == (0, f"csv2kafka {csv2kafka.__version__}\n")
