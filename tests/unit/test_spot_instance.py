"""What the Spot instance runs: its user data as moto hands it out, executed in a folder instead of on an instance.

AWS's command line, docker, dnf and systemd are not there; programs in their place note how they were called.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from csv2kafka import errors
from csv2kafka.settings import load_run
from tests.support import templates
from tests.support.environment import clear_options

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")  # of what moto skips

SECRET = '{"username": "loader", "password": "p\\"w $x"}'
NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\n'
PROGRAMS = {
    "aws": NOTE + f"case $2 in get-secret-value) echo '{SECRET}' ;; get-login-password) echo token ;; esac",
    "docker": NOTE + 'printf "%s\\n" "$@" >"$CALLS.words"; if [ "$1" = run ]; then env >"$CALLS.env"; else cat; fi >&2',
    "dnf": NOTE,
    "systemctl": NOTE,
    "sleep": NOTE,
}
END_THE_GROUP = "aws autoscaling set-desired-capacity --auto-scaling-group-name ec2-spot --desired-capacity 0"
COUNT_AN_ERROR = (
    "aws cloudwatch put-metric-data --namespace CSVToKafka --metric-name ErrorCount "
    "--dimensions JobId=customers-2024 --value 1"
)


@dataclass(frozen=True)
class Instance:
    """A folder with all that the user data puts onto an instance."""

    root: Path
    user_data: str

    @property
    def calls(self) -> list[str]:
        noted = self.root / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root / 'programs'}:{os.environ['PATH']}"
        environment = {"PATH": path, "CALLS": str(self.root / "calls"), **env}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> subprocess.CompletedProcess[str]:
        return self.run("bash", "-c", self.user_data)

    def script(self, name: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.root / "usr/local/bin" / name), **env)

    def forget_calls(self) -> None:
        (self.root / "calls").unlink()


@pytest.fixture(scope="module")
def user_data() -> str:
    with mock_aws():
        templates.make_stack("ec2-spot", templates.WITH_PASSWORD)
        versions = boto3.client("ec2").describe_launch_template_versions(Versions=["$Latest"])
        return base64.b64decode(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]).decode()


@pytest.fixture
def instance(user_data: str, tmp_path: Path) -> Instance:
    """Not started yet."""
    for folder in ("etc/systemd/system", "usr/local/bin", "programs"):
        (tmp_path / folder).mkdir(parents=True)
    for name, program in PROGRAMS.items():
        (tmp_path / "programs" / name).write_text(program)
        (tmp_path / "programs" / name).chmod(0o755)
    return Instance(tmp_path, re.sub(r"(?<![\w/])/(etc|usr/local)/", rf"{tmp_path}/\1/", user_data))


@pytest.fixture
def started(instance: Instance) -> Instance:
    assert instance.start().returncode == 0
    instance.forget_calls()
    return instance


def test_it_sets_itself_up_and_starts_the_job(instance: Instance) -> None:
    started = instance.start()
    assert (started.returncode, started.stderr) == (0, "")
    assert instance.calls == [
        "dnf install --assumeyes docker",
        "systemctl start docker.service csv2kafka-notice.service csv2kafka.service",
    ]
    scripts = sorted(path.name for path in (instance.root / "usr/local/bin").iterdir())
    assert scripts == ["csv2kafka-end", "csv2kafka-job", "csv2kafka-notice"]


def test_an_instance_that_cannot_set_itself_up_ends_itself(instance: Instance) -> None:
    (instance.root / "programs/dnf").write_text("#!/bin/sh\nexit 1")
    assert instance.start().returncode != 0
    assert instance.calls == [COUNT_AN_ERROR, END_THE_GROUP]


class TestTheJob:
    def test_it_runs_the_image_with_its_options(self, started: Instance) -> None:
        assert started.script("csv2kafka-job").returncode == 0
        words = (started.root / "calls.words").read_text().splitlines()
        assert words[0] == "run"
        assert words[-6:] == [
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/csv2kafka:1",
            "run",
            "--key",
            "customer_id",
            "--format",
            "csv",
        ]

    def test_the_login_is_in_the_environment_only(self, started: Instance) -> None:
        ended = started.script("csv2kafka-job")
        environment = (started.root / "calls.env").read_text()
        assert "KAFKA_SASL_USERNAME=loader\n" in environment
        assert 'KAFKA_SASL_PASSWORD=p"w $x\n' in environment
        command = started.calls[-1]
        assert "--env KAFKA_SASL_USERNAME --env KAFKA_SASL_PASSWORD " in command
        written = [path.read_text() for path in started.root.rglob("*") if path.is_file() and path.name != "calls.env"]
        installed = [text for text in written if SECRET not in text]  # but for the program that has to give it out
        assert 'p"w' not in "".join([*installed, ended.stdout, ended.stderr])

    def test_its_environment_is_a_runs(self, started: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
        clear_options(monkeypatch)
        lines = (started.root / "etc/csv2kafka.env").read_text().splitlines()
        for name, value in (line.split("=", 1) for line in lines):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KAFKA_SASL_USERNAME", "loader")
        monkeypatch.setenv("KAFKA_SASL_PASSWORD", "secret")
        settings = load_run({})
        assert settings.source == "s3://files/2024/customers.csv"
        assert (settings.topic, settings.job_id) == ("customers", "customers-2024")
        assert str(settings.checkpoint_url).startswith("dynamodb://ec2-spot-Checkpoints-")
        assert settings.enable_metrics
        assert (settings.kafka.security_protocol, settings.kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")


class TestTheEnd:
    @pytest.mark.parametrize("status", [str(errors.Retryable.exit_code), "143", "TERM"])
    def test_a_job_that_goes_on_keeps_its_instance(self, started: Instance, status: str) -> None:
        assert started.script("csv2kafka-end", EXIT_STATUS=status).returncode == 0
        assert started.calls == []

    def test_systemd_starts_it_again_here(self, started: Instance) -> None:
        unit = (started.root / "etc/systemd/system/csv2kafka.service").read_text()
        assert f"RestartForceExitStatus={errors.Retryable.exit_code} 143\n" in unit
        assert "Restart=" not in unit.replace("RestartForceExitStatus=", "")  # "no" is the default

    def test_a_complete_job_ends_the_group(self, started: Instance) -> None:
        assert started.script("csv2kafka-end", EXIT_STATUS="0").returncode == 0
        assert started.calls == [END_THE_GROUP]

    @pytest.mark.parametrize("status", ["1", "2", "65", "66", "70", "77", "78", "125", "137", "KILL"])
    def test_so_does_a_failed_one_which_is_counted(self, started: Instance, status: str) -> None:
        assert started.script("csv2kafka-end", EXIT_STATUS=status).returncode == 0
        assert started.calls == [COUNT_AN_ERROR, END_THE_GROUP]

    def test_an_error_that_cannot_be_counted_does_not_keep_the_instance(self, started: Instance) -> None:
        (started.root / "programs/aws").write_text(NOTE + '[ "$1" != cloudwatch ]')
        assert started.script("csv2kafka-end", EXIT_STATUS="65").returncode == 0
        assert started.calls == [COUNT_AN_ERROR, END_THE_GROUP]


@contextmanager
def metadata_service(answers: list[int]) -> Iterator[str]:
    """IMDSv2 on this machine: it gives a token, and answers with `answers` those who ask with it about the notice."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.answer(200 if self.path == "/latest/api/token" else 404, b"a-token")

        def do_GET(self) -> None:
            may_ask = self.headers["X-aws-ec2-metadata-token"] == "a-token"
            is_right = may_ask and self.path == "/latest/meta-data/spot/instance-action"
            self.answer(answers.pop(0) if is_right else 401, b"{}")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the instance has curl, this machine has not")
def test_the_notice_stops_the_job(started: Instance) -> None:
    answers = [404, 404, 500, 200]
    script = started.root / "usr/local/bin/csv2kafka-notice"
    with metadata_service(answers) as url:
        script.write_text(script.read_text().replace("http://169.254.169.254", url))
        assert started.script("csv2kafka-notice").returncode == 0
    assert answers == []
    assert started.calls == ["sleep 5"] * 4 + ["systemctl stop csv2kafka.service"]
