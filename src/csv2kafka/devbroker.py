"""A real Apache Kafka on this machine, for demo, tests and benchmarks: KRaft, 127.0.0.1, one node or one of several.

It starts, stops and breaks a node's process. Nothing of the loader may live here, nor any Kafka client.
POSIX only; that the broker dies with its parent is certain on Linux, elsewhere it needs a regular exit.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

from csv2kafka.errors import ConfigError, KafkaUnavailable
from csv2kafka.javaenv import find_jars, find_java

KAFKA_VERSION = "4.3.1"
HOST = "127.0.0.1"
_FOLDER_PREFIX = "csv2kafka-broker-"

# The binding for SLF4J 1.7, which Kafka's jars want and do not bring.
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

# Runs a command that the kernel kills when the process that started it is gone. The check of the parent closes
# the gap before the prctl call; an interpreter of its own, as Python code between fork and exec can deadlock.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; "
    "ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)

_LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A node's place in a cluster: Kafka's `node.id`, `process.roles`, and `controller.quorum.voters` (its own
    controller alone unless given).
    """

    cluster_id: str
    node_id: int = 1
    roles: str = "broker,controller"
    voters: str | None = None


class Broker:
    """One running broker. `bootstrap` is its address; it is ready for clients once the constructor returns.

    port: a free one unless given; it stays the broker's own through restarts.
    data_dir: a temporary folder, removed by `close`, unless given; a used one goes on with its data.
    properties: more of Kafka's server properties, which win over the ones set here.
    member: its place in a cluster of several nodes; a cluster of its own unless given.
    start: False leaves the start to `start`, as nodes of one cluster wait for each other: call it from threads.
    Raises ConfigError (no Java, no jgo, port taken), Retryable (jars not to be had), KafkaUnavailable.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data_dir: Path | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 768,
        version: str = KAFKA_VERSION,
        java: Path | None = None,
        java_options: Sequence[str] = (),
        member: Member | None = None,
        start: bool = True,
    ) -> None:
        self.version = version
        self._member = member or Member(new_cluster_id())
        self._java = java or find_java()
        self._jars = find_jars(f"org.apache.kafka:kafka_2.13:{version}", _LOG_BINDING)
        self._heap_mb = heap_mb
        self._java_options = java_options
        self._reserved = [_reserve(port), _reserve(None)]
        self.port, self._controller_port = (int(held.getsockname()[1]) for held in self._reserved)
        if sys.platform != "linux":  # only there may the broker listen beside a socket that keeps the port
            self._release_ports()
        self.bootstrap = f"{HOST}:{self.port}"
        self.voters = self._member.voters or f"{self._member.node_id}@{HOST}:{self._controller_port}"
        self._is_temporary = data_dir is None
        self._folder = contextlib.ExitStack()
        self.data_dir = data_dir.absolute() if data_dir else self._folder.enter_context(temporary_folder())
        self.log_path = self.data_dir / "broker.log"
        self._properties = self._server_properties() | dict(properties or {})
        self._pid = 0
        self._exited = threading.Event()
        self._exited.set()
        atexit.register(self.close)
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def _server_properties(self) -> dict[str, str]:
        internal_topics = {
            f"{topic}.{name}": "1"
            for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
            for name in ("replication.factor", "num.partitions")
        }
        listeners = {
            "broker": f"PLAINTEXT://{HOST}:{self.port}",
            "controller": f"CONTROLLER://{HOST}:{self._controller_port}",
        }
        return internal_topics | {
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "process.roles": self._member.roles,
            "node.id": str(self._member.node_id),
            "controller.quorum.voters": self.voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(listeners[role] for role in self._member.roles.split(",")),
            "log.dirs": str(self.data_dir / "log"),
            "group.initial.rebalance.delay.ms": "0",
            # After a crash the controller refuses the broker until its old session has run out: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),  # 128 MiB by default: too much of a small heap
        }

    @property
    def pid(self) -> int:
        """The Java process's id, of the last one when it does not run."""
        return self._pid

    @property
    def is_running(self) -> bool:
        return not self._exited.is_set()

    def start(self, patience_s: float = 90) -> None:
        """Start the process; returns when it serves. For nodes that do not run: new ones, killed ones."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        settings = self.data_dir / "server.properties"
        settings.write_text("".join(f"{key}={value}\n" for key, value in self._properties.items()))
        (self.data_dir / "log4j2.properties").write_text(_LOG4J)
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(settings)
        java = self._java_command("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", *self._java_options)
        command = [*java, "kafka.Kafka", str(settings)]
        started = threading.Event()
        self._exited.clear()
        threading.Thread(target=self._own, args=(command, started), daemon=True).start()
        started.wait()
        deadline = time.monotonic() + patience_s
        while not self._is_serving():
            if self._exited.wait(0.02):
                self.fail("stopped while it was starting")
            if time.monotonic() > deadline:
                self.fail(f"did not answer within {patience_s:.0f} s")

    def kill(self) -> None:
        """SIGKILL, as a crash does it; returns when the process is gone. The data stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as an operator stops it; returns when the process is gone. The data stays."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again with the same data and port, after a regular stop if it still runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Returns when every thread stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> None:
        """Block until the process has ended."""
        self._exited.wait()

    def close(self) -> None:
        """Stop the broker and, unless a data folder was given, remove its data. May be called again."""
        atexit.unregister(self.close)
        self._end(signal.SIGKILL if self._is_temporary else signal.SIGTERM)
        self._release_ports()
        self._folder.close()

    def _release_ports(self) -> None:
        for held in self._reserved:
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, how: signal.Signals, patience_s: float = 20) -> None:
        if not self.is_running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, how)
            os.kill(self.pid, signal.SIGCONT)  # a paused process would never see SIGTERM
        if not self._exited.wait(patience_s):
            os.kill(self.pid, signal.SIGKILL)
            self._exited.wait()

    def _own(self, command: list[str], started: threading.Event) -> None:
        """Start the process and wait for its end, in one thread: to the kernel the thread that started a process,
        not the program, is the parent with which it shall die.
        """
        try:
            with self.log_path.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603
                    die_with_parent(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the owner, which then stops the broker
                )
            self._pid = process.pid
            started.set()
            process.wait()
        finally:
            self._exited.set()
            started.set()

    def _is_serving(self) -> bool:
        if "broker" not in self._member.roles:
            return _is_listening(self._controller_port)
        return self._member.node_id in _brokers_known_at(self.port)

    def _format(self, settings: Path) -> None:
        tool = [*self._java_command("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool"]
        # "=", because a random id may begin with a dash
        arguments = ["format", f"--cluster-id={self._member.cluster_id}", "-c", str(settings)]
        with self.log_path.open("ab") as log:
            subprocess.run([*tool, *arguments], stdout=log, stderr=subprocess.STDOUT, check=False)  # noqa: S603
        if not (self.data_dir / "log" / "meta.properties").exists():
            self.fail("could not lay out its data folder")

    def _java_command(self, *options: str) -> list[str]:
        return [
            str(self._java),
            *options,
            f"-Xmx{self._heap_mb}m",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
            "-cp",
            os.pathsep.join(map(str, self._jars)),
        ]

    def fail(self, what: str) -> NoReturn:
        """Raise KafkaUnavailable: what happened, and how the log ends."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        last_lines = [line for line in lines if not line.startswith("\tat ")][-15:]
        log = "its log" if self._is_temporary else str(self.log_path)
        raise KafkaUnavailable(
            f"Apache Kafka {self.version} {what}", hint="\n".join([f"{log} ends with:", *last_lines])
        )


def serve(port: int | None, data_dir: Path | None, *, version: str = KAFKA_VERSION) -> None:
    """Run a broker in the foreground until Ctrl-C or SIGTERM; once it is ready, stdout gets its address alone.

    Raises what `Broker` raises, and KafkaUnavailable when the broker ends by itself.
    """

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Broker(port=port, data_dir=data_dir, version=version) as broker,
    ):
        sys.stdout.write(f"{broker.bootstrap}\n")
        sys.stdout.flush()
        broker.wait()
        broker.fail("stopped by itself")


def die_with_parent(command: Sequence[str]) -> list[str]:
    """`command` such that the kernel kills it with the thread that starts it (on Linux; elsewhere as it was)."""
    if sys.platform != "linux":
        return list(command)
    program = shutil.which(command[0]) or command[0]
    return [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), program, *command[1:]]


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder, removed on leaving; those of processes that were killed before are removed on entering.

    It gets the name by which others look for such folders only when it is claimed.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "owner").open() as owner:  # OSError: claimed, or gone
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    new = Path(tempfile.mkdtemp(prefix="csv2kafka-new-"))
    with (new / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        claimed = new.rename(new.with_name(new.name.replace("csv2kafka-new-", _FOLDER_PREFIX)))
        try:
            yield claimed
        finally:
            shutil.rmtree(claimed, ignore_errors=True)


def _reserve(port: int | None) -> socket.socket:
    """A socket that keeps `port` (None: a free one) out of the hands of others while no broker listens on it.

    The broker's own socket may be bound beside this one, because neither of the two refuses reuse and this one
    never listens. Without it, a client that retries while the broker is down may connect to itself there.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, port or 0))
    except OSError as error:
        held.close()
        raise ConfigError(f"port {port}: {error.strerror}", hint="choose another --port") from error
    return held


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def _brokers_known_at(port: int) -> set[int]:
    """The node ids in the answer to a Metadata request (version 1, no topics); none where nobody answers.

    A broker works once it is in its own list: a port that accepts connections, or an ApiVersions answer, may come
    before the controller lets it.
    """
    request = struct.pack(">hhih", 3, 1, 7, 0) + struct.pack(">i", 0)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                answer = stream.read(struct.unpack(">i", stream.read(4))[0])
        return set(_broker_ids(answer))
    except (OSError, struct.error):  # struct.error: hung up on the way
        return set()


def _broker_ids(answer: bytes) -> Iterator[int]:
    _, count = struct.unpack_from(">ii", answer)
    at = 8
    for _ in range(count):
        node_id, host_bytes = struct.unpack_from(">ih", answer, at)
        at += 6 + host_bytes + 4  # the port
        (rack_bytes,) = struct.unpack_from(">h", answer, at)  # -1: no rack
        at += 2 + max(rack_bytes, 0)
        yield node_id
