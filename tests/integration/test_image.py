"""The image without Docker: its kernels' cache, its process 1 and its health check, as the Dockerfile has them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from csv2kafka.devbroker import Broker
from tests.support import templates
from tests.support.processes import Children
from tests.support.until import until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "deploy/Dockerfile").read_text())
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]
ROWS = "id,name\n" + "".join(f'{row},"a ""name"" \\x"\n' for row in range(1000))
OPTIONS = {
    "plain": (),
    "key": ("--key", "id"),
    "escape": ("--escape", "\\"),
    "csv": ("--format", "csv"),
    "headers": ("--headers", "provenance"),
    "quarantine": ("--bad-rows", "quarantine"),
}


def listed(instruction: str, within: str = "") -> list[str]:
    """The instruction's words in the final stage. It must stand there as a list: otherwise a shell is process 1."""
    prefix = rf"{within} .*" if within else ""
    found = re.search(rf"^{prefix}{instruction} (\[.*\])$", FINAL_STAGE, re.MULTILINE)
    assert found, f"no {instruction} as a list"
    words: list[str] = json.loads(found[1])
    return words


def numba_settings(cache: Path) -> dict[str, str]:
    settings = dict(re.findall(r"(NUMBA_\w+)=(\S*)", re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[0]))
    assert settings.keys() == {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_CACHE_DIR"}
    default = re.findall(r"^ARG NUMBA_CPU_NAME=(\S+)$", DOCKERFILE, re.MULTILINE)
    return {"NUMBA_CPU_NAME": default[0], "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(cache)}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that finds the kernels which the image's build compiles."""
    settings = numba_settings(tmp_path_factory.mktemp("kernels"))
    children = Children(settings)
    build = children.start([sys.executable, str(ROOT / "deploy/warm_up.py")], cwd=ROOT)
    _, stderr = build.communicate(timeout=300)
    assert build.returncode == 0, stderr
    return settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


class TestTheKernels:
    @pytest.mark.kafka
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_no_load_compiles_any(
        self,
        warm: dict[str, str],
        options: tuple[str, ...],
        file: Path,
        broker: Broker,
        make_topic: Callable[..., str],
        children: Children,
    ) -> None:
        topic = make_topic(partitions=2 if "--key" in options else 1)
        ended = children.cli(
            "run", file, topic, "-b", broker.bootstrap, "-q", *options, env=warm | {"NUMBA_DEBUG_CACHE": "1"}
        )
        assert ended.returncode == 0, ended.stderr
        assert "[cache] data loaded" in ended.stdout
        assert "[cache] data saved" not in ended.stdout

    def test_nor_does_a_schemas_proposal(self, warm: dict[str, str], file: Path, children: Children) -> None:
        ended = children.cli("schema", file, env=warm | {"NUMBA_DEBUG_CACHE": "1"})
        assert ended.returncode == 0, ended.stderr
        assert "[cache] data loaded" in ended.stdout
        assert "[cache] data saved" not in ended.stdout


class Container:
    """The command line, over a stub of a job, as process 1 of a namespace of its own. Needs Linux, and root or the
    right to make user namespaces.
    """

    def __init__(self, children: Children) -> None:
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        stub = [sys.executable, "-m", "tests.support.stub_run", "until-stopped", "60", "run", "data.csv", "orders"]
        self._outside = children.start(
            ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", *as_root, *stub, "-b", "b:9092"], cwd=ROOT
        )
        self._enter = ["nsenter", *(["--user", "--preserve-credentials"] if as_root else []), "--pid", "--mount"]
        assert self._outside.stderr is not None
        while "running" not in (line := self._outside.stderr.readline()):
            assert line, "it never ran"
        (self._process,) = psutil.Process(self._outside.pid).children()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        self._outside.communicate(timeout=60)
        return self._outside.returncode

    def is_healthy(self) -> bool:
        """What the image's HEALTHCHECK says."""
        check = [*self._enter, f"--target={self._process.pid}", "--", *listed("CMD", "HEALTHCHECK")]
        ended = subprocess.run(check, capture_output=True, text=True, timeout=30, check=False)
        assert ended.stderr == ""
        return ended.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
class TestProcess1:
    def test_it_is_the_program_itself(self) -> None:
        assert [*listed("ENTRYPOINT"), *listed("CMD")] == ["csv2kafka", "run"]

    def test_sigterm_reaches_it(self, children: Children) -> None:
        container = Container(children)
        container.send(signal.SIGTERM)
        assert container.exit_code() == 143

    def test_it_is_healthy_unless_it_is_frozen(self, children: Children) -> None:
        container = Container(children)
        assert container.is_healthy()
        container.send(signal.SIGSTOP)
        until(lambda: not container.is_healthy(), "seen to be frozen")

    def test_ecs_checks_its_health_alike(self) -> None:
        (container,) = templates.load("ecs-fargate")["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
        assert container["HealthCheck"]["Command"] == ["CMD", *listed("CMD", "HEALTHCHECK")]

    def test_it_is_nobody(self) -> None:
        (user,) = re.findall(r"^USER (.*)$", FINAL_STAGE, re.MULTILINE)
        assert int(user) > 0
